//! `bmc info`: what a BMC says of its machine.

use serde::Serialize;

use super::look;
use crate::{
    bmc::{self, client::ManagerFacts, ipmi, neighbours::Neighbour},
    cli::{args::bmc::Info, globals::Globals},
    model::{Failure, facts::BmcFacts},
    output::{Exit, Stop, resource},
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    facts: BmcFacts,
    manager: ManagerFacts,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<bmc::client::Progress>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    neighbours: Vec<Neighbour>,
    /// Over IPMI: the BMC's own description of itself, and its inventory records.
    #[serde(skip_serializing_if = "Option::is_none")]
    ipmi: Option<ipmi::shown::About>,
}

pub fn run(globals: &Globals, args: &Info) -> Result<Exit, Stop> {
    // Ports are a walk of their own: only where they are shown.
    let whole = !matches!(globals.format, crate::output::Format::Table);
    let rows = look::over(globals, &args.targets, move |client| Box::pin(said(client, whole)))?;
    look::show(
        globals,
        rows,
        |wide| {
            let mut headers = vec!["VENDOR", "MODEL", "SERIAL", "POWER", "BIOS", "BMC"];
            if wide {
                headers.extend(["UUID", "START", "DISKS", "SWITCH PORTS", "ENDPOINT"]);
            }
            headers
        },
        |said, wide| {
            let facts = &said.facts;
            let mut row = vec![
                look::or_dash(&facts.manufacturer),
                look::or_dash(&facts.model),
                look::or_dash(&facts.serial),
                resource::power_word(facts.power).to_owned(),
                look::or_dash(&facts.bios_version),
                look::or_dash(&facts.bmc_version),
            ];
            if wide {
                let disks: Vec<&str> = facts.drives.iter().map(|d| d.serial.as_deref().unwrap_or("?")).collect();
                let ports: Vec<String> = said.neighbours.iter().map(heard).collect();
                row.extend([
                    facts.uuid.map_or_else(|| "-".to_owned(), |u| u.to_string()),
                    said.progress.as_ref().map_or_else(|| "-".to_owned(), |p| p.state.clone()),
                    disks.join(","),
                    ports.join(","),
                    facts.endpoint.clone(),
                ]);
            }
            vec![row]
        },
    )
}

fn heard(neighbour: &Neighbour) -> String {
    let switch = neighbour.switch.as_deref().unwrap_or("?");
    format!("{}={switch}/{}", neighbour.port, neighbour.switch_port.as_deref().unwrap_or("?"))
}

async fn said(client: &bmc::Client, whole: bool) -> Result<Said, Failure> {
    let facts = client.facts().await?;
    let manager = client.bmc_info().await?;
    let (mut progress, mut neighbours, mut about) = (None, Vec::new(), None);
    // Each way knows what the other does not: what there is, is shown.
    match client.redfish("read more") {
        Ok(client) if whole => {
            progress = client.progress().await?;
            neighbours = client.neighbours().await?;
        }
        Err(_) if whole => about = Some(client.ipmi("read more")?.about().await?),
        _ => {}
    }
    Ok(Said { facts, manager, progress, neighbours, ipmi: about })
}
