//! Certificates of a BMC: listed, and that of its HTTPS server replaced.

use super::{
    Client,
    ground::Ground,
    walk::{self, Source},
};
use crate::{
    bmc::{
        certificates::{self, Certificate},
        link,
        redfish::wire::{Action, Link, security as wire},
    },
    model::{Failure, Secret, failure::Cause},
};

const MAX_CERTIFICATES: usize = 64;

/// Those of the HTTPS server first, then what else the BMC names as its own; those of secure boot are the machine's.
pub async fn gather_certificates<S: Source>(ground: &Ground<'_, S>) -> Result<Vec<Certificate>, Failure> {
    let (mut found, mut looked): (Vec<Certificate>, Vec<String>) = (Vec::new(), Vec::new());
    for (_, manager) in ground.managers().await? {
        let protocol: Option<wire::NetworkProtocol> = ground.maybe(&manager.network_protocol).await?;
        let https = protocol.and_then(|p| p.https).unwrap_or_default();
        let Some(path) = Link::path(&https.certificates) else { continue };
        looked.push(path.to_owned());
        let members = ground.members::<wire::Certificate>(path, MAX_CERTIFICATES).await?.unwrap_or_default();
        found.extend(members.iter().map(|(path, one)| certificates::certificate(path, one, true)));
    }
    let service: Option<wire::CertificateService> = ground.maybe(&ground.root.certificate_service).await?;
    if let Some(path) = service.as_ref().and_then(|s| Link::path(&s.locations)) {
        looked.push(path.to_owned());
        let locations = walk::optional(walk::get::<S, wire::CertificateLocations>(ground.source, path)).await?;
        let links = locations.map(|(l, _)| l).unwrap_or_default().links.unwrap_or_default();
        let known = |path: &str| found.iter().any(|c| link::same(&c.path, path));
        let own = |path: &String| !path.contains("/SecureBoot/") && !known(path);
        let paths: Vec<String> = crate::bmc::read::paths(&links.certificates).into_iter().filter(own).collect();
        let more: Vec<(String, wire::Certificate)> =
            walk::each(ground.source, paths.into_iter().take(MAX_CERTIFICATES).collect()).await?;
        found.extend(more.iter().map(|(path, one)| certificates::certificate(path, one, path.contains("/HTTPS/"))));
    }
    if found.is_empty() {
        if looked.is_empty() {
            looked.push("NetworkProtocol of its managers and CertificateService".to_owned());
        }
        let looked: Vec<&str> = looked.iter().map(String::as_str).collect();
        return Err(ground.lacks("read its certificates", "certificate that can be read", &looked));
    }
    Ok(found)
}

impl Client {
    /// Gives the HTTPS server another certificate: PEM, with its private key where the BMC did not make the request for it.
    /// That it is served is seen at the next handshake.
    pub async fn replace_certificate(&self, pem: &Secret) -> Result<(), Failure> {
        const DOING: &str = "replace its certificate";
        self.limited(DOING, async {
            let view = self.fresh_view(false).await?;
            let ground = self.ground(&view);
            let service: Option<wire::CertificateService> = ground.maybe(&self.root.certificate_service).await?;
            let action = service.and_then(|s| s.actions).and_then(|a| a.replace);
            let Some(target) = Action::target(&action).map(str::to_owned) else {
                let place = Link::path(&self.root.certificate_service);
                let place = place.unwrap_or("CertificateService of its service root");
                return Err(self.lacks(DOING, "way to replace a certificate", &[place]));
            };
            let found = gather_certificates(&ground).await?;
            let Some(https) = found.iter().find(|c| c.https) else {
                let looked: Vec<&str> = found.iter().map(|c| c.path.as_str()).collect();
                return Err(self.lacks(DOING, "certificate of its HTTPS server", &looked));
            };
            let uri = Link { id: Some(https.path.clone()) };
            let body = wire::ReplaceCertificate { pem: pem.expose(), kind: "PEM", uri };
            let body = serde_json::to_value(&body).unwrap_or_default();
            match self.post(&target, body).await {
                Ok(_) => Ok(()),
                // Its server may start anew before it has answered.
                Err(failure) if failure.cause == Cause::Unreachable => Ok(()),
                // What a BMC says of a file with a key in it may quote the key: no more than the status is told.
                Err(failure) => {
                    let why = failure.why.split_once(':').map_or(failure.why.as_str(), |(status, _)| status).to_owned();
                    Err(Failure { what: self.what(DOING), why: format!("the BMC refuses it ({why})"), ..failure })
                }
            }
        })
        .await
    }

    pub async fn certificates(&self) -> Result<Vec<Certificate>, Failure> {
        self.limited("read its certificates", async {
            let view = self.fresh_view(false).await?;
            gather_certificates(&self.ground(&view)).await
        })
        .await
    }
}
