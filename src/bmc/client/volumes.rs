//! Volumes of storage controllers: listed, made, deleted.

use std::time::Duration;

use reqwest::Method;
use tokio::time::{Instant, sleep};

use super::{
    Client,
    ground::Ground,
    send::Request,
    walk::{self, Source},
};
use crate::{
    bmc::{
        firmware::{self, Standing},
        link, read,
        redfish::wire::{Drive, Link, Storage, task::Task, volume as wire},
        volumes::{self, Controller, Volume, Wish},
    },
    model::{Failure, failure::Cause},
};

const MAX_CONTROLLERS: usize = 32;
const MAX_VOLUMES: usize = 256;
const MAX_DRIVES: usize = 128;
const POLL: Duration = Duration::from_secs(2);

/// Controllers with their volumes and drives.
pub async fn gather_volumes<S: Source>(ground: &Ground<'_, S>) -> Result<Vec<Controller>, Failure> {
    const DOING: &str = "read its volumes";
    let Some(path) = Link::path(&ground.view.system.storage) else {
        let looked = format!("{}/Storage", ground.view.path.trim_end_matches('/'));
        return Err(ground.lacks(DOING, "storage", &[&looked]));
    };
    let mut all = Vec::new();
    for (home, storage) in ground.members::<Storage>(path, MAX_CONTROLLERS).await?.unwrap_or_default() {
        let collection = Link::path(&storage.volumes).map(str::to_owned);
        let mut found = Vec::new();
        if let Some(collection) = &collection {
            let members = ground.members::<wire::Volume>(collection, MAX_VOLUMES).await?.unwrap_or_default();
            found.extend(members.iter().map(|(path, one)| volumes::volume(path, one)));
        }
        let drives: Vec<String> = read::paths(&storage.drives).into_iter().take(MAX_DRIVES).collect();
        let drives: Vec<(String, Drive)> = walk::each(ground.source, drives).await?;
        all.push(Controller {
            id: read::text(&storage.id).unwrap_or_else(|| crate::bmc::redfish::json::clean(link::last_segment(&home))),
            name: read::text(&storage.name),
            collection,
            volumes: found,
            drives: drives.iter().filter_map(|(path, drive)| volumes::part(path, drive)).collect(),
        });
    }
    if all.is_empty() { Err(ground.lacks(DOING, "storage controller", &[path])) } else { Ok(all) }
}

impl Client {
    pub async fn volumes(&self) -> Result<Vec<Controller>, Failure> {
        self.limited("read its volumes", self.volumes_now()).await
    }

    async fn volumes_now(&self) -> Result<Vec<Controller>, Failure> {
        let view = self.fresh_view(false).await?;
        gather_volumes(&self.ground(&view)).await
    }

    /// Makes a volume and waits until it is listed. What is on its drives is lost.
    pub async fn create_volume(&self, wish: &Wish, limit: Duration) -> Result<Volume, Failure> {
        const DOING: &str = "create a volume";
        let until = Instant::now() + limit;
        let refuse = |why: String| {
            Failure::new(Cause::Refused, self.what(DOING), why).next(format!("rackctl bmc raid {}", self.wire.node))
        };
        let before = self.volumes().await?;
        let (path, body) = volumes::create(&before, wish).map_err(refuse)?;
        let known: Vec<String> = before.iter().flat_map(|c| &c.volumes).map(|v| v.path.clone()).collect();
        self.before_taking().await?;
        let answer = self.limited(DOING, self.post(&path, body)).await;
        let answer = answer.map_err(|f| Failure { what: self.what(DOING), ..f })?;
        self.job(firmware::task_of(answer.location.as_deref(), &answer.body), until, DOING).await?;
        loop {
            let now = self.volumes().await?;
            let made = now.iter().flat_map(|c| &c.volumes).find(|v| {
                !known.iter().any(|k| link::same(k, &v.path))
                    && (v.raid.is_none() || v.raid.as_deref() == Some(&wish.raid))
            });
            if let Some(made) = made {
                return Ok(made.clone());
            }
            if Instant::now() >= until {
                let why =
                    "the BMC took the request and no new volume is listed: some make it at the machine's next start";
                return Err(Failure::new(Cause::AcceptedButIgnored, self.what(DOING), why)
                    .next(format!("rackctl bmc raid {}", self.wire.node)));
            }
            sleep(POLL).await;
        }
    }

    /// Deletes a volume by id or name and waits until it is not listed any more. Its data is lost.
    pub async fn delete_volume(&self, wanted: &str, limit: Duration) -> Result<(), Failure> {
        const DOING: &str = "delete a volume";
        let until = Instant::now() + limit;
        let before = self.volumes().await?;
        let refuse = |why: String| {
            Failure::new(Cause::Refused, self.what(DOING), why).next(format!("rackctl bmc raid {}", self.wire.node))
        };
        let volume = volumes::find(&before, wanted).map_err(refuse)?.clone();
        self.before_taking().await?;
        let request = Request { method: Method::DELETE, ..Request::get(&volume.path) };
        let answer = self.limited(DOING, self.wire.ask(&request)).await;
        let answer = answer.map_err(|f| Failure { what: self.what(DOING), ..f })?;
        self.job(firmware::task_of(answer.location.as_deref(), &answer.body), until, DOING).await?;
        loop {
            let now = self.volumes().await?;
            if !now.iter().flat_map(|c| &c.volumes).any(|v| link::same(&v.path, &volume.path)) {
                return Ok(());
            }
            if Instant::now() >= until {
                let why = format!("the BMC took the request and volume {} is still listed", volume.id);
                return Err(Failure::new(Cause::AcceptedButIgnored, self.what(DOING), why)
                    .next(format!("rackctl bmc raid {}", self.wire.node)));
            }
            sleep(POLL).await;
        }
    }

    /// Waits for a task, if there is one: its failure is told, its end is no proof of anything.
    async fn job(&self, task: Option<String>, until: Instant, doing: &str) -> Result<(), Failure> {
        let Some(task) = task else { return Ok(()) };
        while Instant::now() < until {
            let seen = walk::optional(self.limited(doing, walk::get::<_, Task>(&self.wire, &task))).await?;
            // Gone: what it left behind says more.
            let Some((now, _)) = seen else { return Ok(()) };
            match firmware::standing(&now) {
                Standing::Done => return Ok(()),
                Standing::Failed(why) => {
                    let why = format!("the BMC's task failed: {why}");
                    return Err(Failure::new(Cause::Refused, self.what(doing), why));
                }
                Standing::Runs(_) => sleep(POLL).await,
            }
        }
        Ok(())
    }
}
