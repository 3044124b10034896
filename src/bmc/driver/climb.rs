//! The ladder walked: each rung at the endpoint that has it, and the way back.

use std::sync::Arc;

use super::{Client, Way};
use crate::{
    bmc::{
        client::{Login, Options},
        ipmi,
        ladder::{self, Booted, Came, Ladder, Rung, Shown, Undo, Wish},
        order::Own,
    },
    model::{
        Failure,
        failure::Cause,
        fleet::{EndpointAt, Node},
        power::BootOverride,
    },
};

/// Told what has to be undone before it is done, and makes that durable; `Err`: it is not done.
pub type Keep<'a> = dyn Fn(&Undo) -> Result<(), Failure> + Send + Sync + 'a;

/// The node's IPMI endpoint beside the one that is driven: for flags that Redfish would not take.
pub(super) struct Spare {
    host: String,
    login: Login,
    options: Options,
}

impl std::fmt::Debug for Spare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spare({})", self.host)
    }
}

impl Spare {
    /// The first IPMI endpoint of the node whose password is known.
    pub(super) fn of(node: &Node, passwords: &super::Passwords, options: &Options) -> Option<Spare> {
        node.bmc.as_ref()?.endpoints.iter().find_map(|endpoint| {
            let EndpointAt::Ipmi(host) = &endpoint.at else { return None };
            let known = passwords.get(&node.name, &endpoint.credential).ok()?;
            let (password, proof) = (Arc::clone(&known.password), Arc::clone(&known.proof));
            let login = Login { username: known.username.clone(), password, proof };
            Some(Spare { host: host.clone(), login, options: options.clone() })
        })
    }

    async fn open(&self, node: &str) -> Result<ipmi::Client, Failure> {
        Ok(super::enter_ipmi(node, &self.host, &self.login, &self.options).await?)
    }

    /// What [`Spare::flags`] would send.
    async fn preview(&self, node: &str, want: BootOverride) -> Result<Result<Vec<String>, String>, Failure> {
        let client = self.open(node).await?;
        let lines = client.preview_flags(want).await;
        let _ = client.close().await;
        lines
    }

    /// Opens, sets the flags, closes.
    async fn flags(&self, node: &str, want: BootOverride, keep: Option<&Keep<'_>>) -> Result<(), Failure> {
        let client = self.open(node).await?;
        let set = async {
            if let Some(keep) = keep {
                keep(&Undo::Flags)?;
            }
            client.set_boot(want).await
        }
        .await;
        let _ = client.close().await;
        set
    }
}

/// What a failure is on the ladder; `Err`: it ends the walk.
fn came(result: Result<(), Failure>, want: BootOverride) -> Result<Came, Failure> {
    match result {
        Ok(()) => Ok(Came::Done { read: crate::bmc::boot::words(want), other: None }),
        Err(failure) if failure.cause == Cause::AcceptedButIgnored => Ok(Came::Ignored(vec![failure.why])),
        Err(failure) if failure.cause == Cause::Refused => Ok(Came::Refused(vec![failure.why])),
        Err(failure) => Err(failure),
    }
}

impl Client {
    /// Makes the machine boot as wished, by the first way that is read back: override, boot order, IPMI's flags, virtual
    /// media. With `keep`, ways that clearing an override does not undo are open too; each is told to it before.
    ///
    /// # Errors
    /// No way holds: every one is named with what was read back, or why it was passed over. A BMC that is away, or that
    /// refuses the user, ends the walk at once.
    pub async fn boot_from(&self, wish: &Wish<'_>, keep: Option<&Keep<'_>>) -> Result<Booted, Failure> {
        let wish = Wish { keeps: keep.is_some(), ..*wish };
        let ways = self.ways(&wish);
        let order_too = wish.surer && matches!(ways.get(1), Some(Ok(())));
        let mut walk = Ladder::new(wish.want, ways);
        while let Some(rung) = walk.down() {
            let came = match (rung, &self.way, keep, &self.spare) {
                (Rung::Override, Way::Redfish(client), ..) => client.climb_override(&wish).await?,
                (Rung::Order, Way::Redfish(client), Some(keep), _) => client.climb_order(&wish, keep).await?,
                (Rung::Media, Way::Redfish(client), Some(keep), _) => client.climb_media(&wish, keep).await?,
                (Rung::Ipmi, Way::Ipmi(client), ..) => came(client.set_boot(wish.want).await, wish.want)?,
                (Rung::Ipmi, Way::Redfish(_), Some(keep), Some(spare)) => {
                    match spare.flags(self.node(), wish.want, Some(keep)).await {
                        // A way beside the one that works: that it is away is no reason to stop here.
                        Err(failure) if failure.cause != Cause::Local && failure.cause != Cause::Interrupted => {
                            let why = format!("ipmi://{}: {}", spare.host, failure.why);
                            let ignored = failure.cause == Cause::AcceptedButIgnored;
                            if ignored { Came::Ignored(vec![why]) } else { Came::Refused(vec![why]) }
                        }
                        result => came(result, wish.want)?,
                    }
                }
                _ => Came::Skipped("nobody would undo it".to_owned()),
            };
            walk.came(rung, came);
        }
        let mut booted = walk.end(self.node())?;
        if let (true, Rung::Override, Way::Redfish(client), Some(keep)) = (order_too, booted.by, &self.way, keep) {
            // The override holds in any case: what the order comes to is told beside it.
            match client.climb_order(&wish, keep).await? {
                Came::Done { read, .. } => booted.words = format!("{}; {read}", booted.words),
                Came::Refused(why) | Came::Ignored(why) => booted.before.push(why.join("; ")),
                Came::Skipped(why) => booted.before.push(why),
            }
        }
        Ok(booted)
    }

    fn ways(&self, wish: &Wish<'_>) -> [Result<(), String>; 4] {
        let redfish = match &self.way {
            Way::Redfish(_) => Ok(()),
            Way::Ipmi(client) => Err(format!("it is driven by {}", client.endpoint())),
        };
        let ipmi = match (&self.way, &self.spare) {
            (Way::Ipmi(_), _) | (_, Some(_)) => Ok(()),
            _ => Err("the inventory names no IPMI endpoint, or its password is not known".to_owned()),
        };
        ladder::ways(wish, redfish, ipmi)
    }

    /// What [`Client::boot_from`] would send, rung by rung: the lower ones only where the upper do not hold. Nothing but
    /// reads is sent.
    pub async fn preview_boot(&self, wish: &Wish<'_>) -> Result<Vec<Shown>, Failure> {
        let wish = Wish { keeps: true, ..*wish };
        let one = |lines: Result<Vec<String>, String>| lines.map(|l| if l.is_empty() { vec![] } else { vec![l] });
        let mut all = Vec::new();
        for (rung, can) in Rung::ALL.into_iter().zip(self.ways(&wish)) {
            let sends = match (can, rung, &self.way, &self.spare) {
                (Err(why), ..) => Err(why),
                (Ok(()), Rung::Override, Way::Redfish(client), _) => one(client.preview_override(&wish).await?),
                (Ok(()), Rung::Order, Way::Redfish(client), _) => one(client.preview_order(&wish).await?),
                (Ok(()), Rung::Media, Way::Redfish(client), _) => {
                    let bare = Wish { url: None, ..wish };
                    match wish.url {
                        Some(image) => match client.preview_insert(image).await? {
                            Ok(insert) => client
                                .preview_override(&bare)
                                .await?
                                .map(|boot| [insert, boot].into_iter().filter(|lines| !lines.is_empty()).collect()),
                            Err(why) => Err(why),
                        },
                        None => Err("no image is given".to_owned()),
                    }
                }
                (Ok(()), Rung::Ipmi, Way::Ipmi(client), _) => one(client.preview_flags(wish.want).await?),
                (Ok(()), Rung::Ipmi, Way::Redfish(_), Some(spare)) => {
                    // A way beside the one that works: that it is away is told in its place.
                    match spare.preview(self.node(), wish.want).await {
                        Ok(lines) => one(lines),
                        Err(failure) => Err(format!("ipmi://{}: {}", spare.host, failure.why)),
                    }
                }
                _ => Err("nobody would undo it".to_owned()),
            };
            all.push(Shown { way: rung.word(), sends });
        }
        Ok(all)
    }

    /// What [`Client::boot_as_ever`] would send, in order.
    pub async fn preview_as_ever(&self, left: &[Undo]) -> Result<Vec<Vec<String>>, Failure> {
        let wish = Wish { want: BootOverride::CLEARED, macs: &[], url: None, keeps: false, surer: false };
        let refused = |why: String| Failure::new(Cause::Refused, format!("{}: preview", self.node()), why);
        let cleared = match &self.way {
            Way::Redfish(client) => client.preview_override(&wish).await?,
            Way::Ipmi(client) => client.preview_flags(BootOverride::CLEARED).await?,
        };
        let mut all = vec![cleared.map_err(refused)?];
        for undo in left.iter().rev() {
            all.push(match (undo, &self.way, &self.spare) {
                (Undo::Order { .. } | Undo::Own { .. }, ..) => {
                    self.redfish("put the boot order back")?.preview_order_back(undo).await?
                }
                (Undo::Media { image }, ..) => self.redfish("take the image out")?.preview_take_out(image).await?,
                (Undo::Flags, Way::Ipmi(client), _) => {
                    client.preview_flags(BootOverride::CLEARED).await?.map_err(refused)?
                }
                (Undo::Flags, Way::Redfish(_), Some(spare)) => {
                    spare.preview(self.node(), BootOverride::CLEARED).await?.map_err(refused)?
                }
                (Undo::Flags, Way::Redfish(_), None) => Vec::new(),
            });
        }
        all.retain(|lines| !lines.is_empty());
        Ok(all)
    }

    /// The machine boots as ever again: no override, and `left` undone, the last first. All of it is tried; the first
    /// failure is told.
    pub async fn boot_as_ever(&self, left: &[Undo]) -> Result<(), Failure> {
        let mut result = self.set_boot(BootOverride::CLEARED).await;
        for undo in left.iter().rev() {
            result = result.and(self.undo(undo).await);
        }
        result
    }

    async fn undo(&self, undo: &Undo) -> Result<(), Failure> {
        match (undo, &self.way) {
            (Undo::Order { old, moved }, _) => {
                let client = self.redfish("put the boot order back")?;
                client.order_back(old, moved).await
            }
            (Undo::Own { path, property, old, moved }, _) => {
                let own = Own { path: path.clone(), property: property.clone() };
                self.redfish("put the vendor's boot order back")?.own_order_back(&own, old, moved).await
            }
            (Undo::Media { image }, _) => self.redfish("take the image out")?.take_media_out(image).await,
            (Undo::Flags, Way::Ipmi(client)) => client.set_boot(BootOverride::CLEARED).await,
            (Undo::Flags, Way::Redfish(_)) => match &self.spare {
                Some(spare) => spare.flags(self.node(), BootOverride::CLEARED, None).await,
                None => {
                    let why = "they were set over IPMI, and the inventory names no IPMI endpoint of it any more";
                    let what = format!("{}: clear its IPMI boot flags", self.node());
                    Err(Failure::new(Cause::Refused, what, why).next(format!("rackctl boot show {}", self.node())))
                }
            },
        }
    }

    /// What the machine boots from, in words, by whichever way it is set.
    pub async fn boot_shown(&self) -> Result<String, Failure> {
        match &self.way {
            Way::Redfish(client) => client.boot_shown().await,
            Way::Ipmi(client) => Ok(crate::bmc::boot::words(client.boot().await?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{bmc::client::NoLedger, model::Secret};

    #[tokio::test]
    async fn a_silent_endpoint_beside_redfish_does_not_hold_its_groups_turn() {
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let login = Login::new("root", Arc::new(Secret::new("correct horse".into())));
        let proof = Arc::clone(&login.proof);
        let options = Options {
            read_only: false,
            deadline: Duration::from_secs(30),
            ledger: Arc::new(NoLedger),
            observer: None,
            gate: None,
        };
        let spare = Spare { host: silent.local_addr().unwrap().to_string(), login, options };
        let other = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let turn = tokio::time::timeout(Duration::from_millis(200), proof.turn("n2", "root")).await;
            turn.is_ok_and(|turn| turn.is_ok_and(|turn| turn.is_first()))
        };
        let (opened, free) = tokio::join!(spare.open("n1"), other);
        assert!(opened.is_err_and(|f| f.cause == Cause::Unreachable), "nobody answers there");
        assert!(free, "the turn was free meanwhile");
    }
}
