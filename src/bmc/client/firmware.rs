//! Firmware of a machine: listed, and brought to another version by an image that the BMC fetches or is sent.

use std::{path::PathBuf, time::Duration};

use reqwest::Method;
use tokio::time::{Instant, sleep};

use super::{
    Client,
    ground::Ground,
    send::Request,
    upload::Upload,
    walk::{self, Source},
};
use crate::{
    bmc::{
        firmware::{self, Item, Standing},
        redfish::wire::{
            Link,
            task::Task,
            update::{Software, UpdateService},
        },
    },
    model::{Failure, failure::Cause},
};

/// The fullest real inventory has 106.
const MAX_ITEMS: usize = 512;
const POLL_FIRST: Duration = Duration::from_secs(1);
const POLL_MOST: Duration = Duration::from_secs(10);
/// The largest images of vendors have some 300 MB.
const MAX_IMAGE_BYTES: u64 = 1 << 30;
/// A BMC that updates itself is away for minutes.
const AWAY_MOST: Duration = Duration::from_secs(900);
/// The longest list of tasks that is looked through.
const MAX_TASKS: usize = 128;
/// A BMC that answers again has its services within this.
const STARTS_WITHIN: Duration = Duration::from_secs(300);
const DOING: &str = "update its firmware";
/// How often in a row "there is no such task" is believed to be a slow start.
const VANISHED_TRIES: u32 = 3;

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// The BMC fetches it.
    Address(String),
    /// A file of this host, which is sent.
    File(PathBuf),
}

/// What happened to an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    /// `BMC: 1.0 -> 1.1`; empty: no version has changed yet, as with images that wait for the next start.
    pub changes: Vec<String>,
    /// The task ended well, or vanished: then the inventory alone says what came of it.
    pub task_seen_to_end: bool,
}

pub async fn gather_firmware<S: Source>(ground: &Ground<'_, S>) -> Result<Vec<Item>, Failure> {
    const DOING: &str = "read its firmware inventory";
    let (path, service) = service(ground, DOING).await?;
    let Some(list) = Link::path(&service.firmware) else {
        return Err(ground.lacks(DOING, "firmware inventory", &[&path]));
    };
    let Some(found) = ground.members::<Software>(list, MAX_ITEMS).await? else {
        return Err(ground.lacks(DOING, "firmware inventory that can be read", &[list]));
    };
    let items: Vec<Item> = found.iter().filter_map(|(path, software)| firmware::item(path, software)).collect();
    if items.is_empty() { Err(ground.lacks(DOING, "firmware item", &[list])) } else { Ok(items) }
}

async fn service<S: Source>(ground: &Ground<'_, S>, doing: &str) -> Result<(String, UpdateService), Failure> {
    let Some(path) = Link::path(&ground.root.update_service) else {
        return Err(ground.lacks(doing, "update service", &["UpdateService of its service root"]));
    };
    match walk::optional(walk::get::<S, UpdateService>(ground.source, path)).await? {
        Some((service, _)) => Ok((path.to_owned(), service)),
        None => Err(ground.lacks(doing, "update service that can be read", &[path])),
    }
}

impl Client {
    pub async fn firmware(&self) -> Result<Vec<Item>, Failure> {
        self.limited("read its firmware inventory", self.firmware_now()).await
    }

    async fn firmware_now(&self) -> Result<Vec<Item>, Failure> {
        let view = self.fresh_view(false).await?;
        gather_firmware(&self.ground(&view)).await
    }

    /// Has the BMC take an image and install it, follows the task, and looks at the versions before and after.
    /// `target`: id of the inventory's item that it is for, where the BMC wants to be told. `progress` is told the
    /// percentage when it changes. A task is polled itself, never its monitor; one that vanishes is looked for in the
    /// inventory.
    pub async fn update_firmware(
        &self,
        image: &Image,
        target: Option<&str>,
        limit: Duration,
        progress: &(dyn Fn(u32) + Send + Sync),
    ) -> Result<Updated, Failure> {
        let before = self.firmware().await?;
        let until = Instant::now() + limit;
        let task_seen_to_end = match self.begin_update(image, target, &before, limit).await? {
            Some(task) => self.follow(&task, until, progress, DOING).await?,
            None => false,
        };
        let after = self.back(until, DOING).await?;
        Ok(Updated { changes: firmware::changes(&before, &after), task_seen_to_end })
    }

    /// The first half of [`Client::update_firmware`]: the BMC has the image, or has it fetched. `known`: its inventory.
    /// Gives the path of the task, where the answer names one.
    pub async fn begin_update(
        &self,
        image: &Image,
        target: Option<&str>,
        known: &[Item],
        limit: Duration,
    ) -> Result<Option<String>, Failure> {
        self.within(limit, DOING, self.start_update(image, target, known, DOING)).await
    }

    /// The second half: to the end of the task. `false`: it vanished, and the inventory alone says what came of it.
    pub async fn follow_update(
        &self,
        task: &str,
        limit: Duration,
        progress: &(dyn Fn(u32) + Send + Sync),
    ) -> Result<bool, Failure> {
        self.follow(task, Instant::now() + limit, progress, DOING).await
    }

    /// The inventory, once the BMC answers again: one that was updated itself is away for minutes.
    pub async fn firmware_when_back(&self, limit: Duration) -> Result<Vec<Item>, Failure> {
        self.back(Instant::now() + limit, DOING).await
    }

    /// Paths of the tasks that have not come to their end, whoever began them; none where the BMC has no list of tasks.
    pub async fn running_tasks(&self) -> Result<Vec<String>, Failure> {
        self.limited("read its tasks", async {
            let view = self.fresh_view(false).await?;
            let ground = self.ground(&view);
            let Some(service) = Link::path(&ground.root.tasks) else { return Ok(Vec::new()) };
            let Some((service, _)) = walk::optional(self.wire.fetch(service)).await? else { return Ok(Vec::new()) };
            let Some(list) = service.pointer("/Tasks/@odata.id").and_then(serde_json::Value::as_str) else {
                return Ok(Vec::new());
            };
            let found = ground.members::<Task>(list, MAX_TASKS).await?.unwrap_or_default();
            let runs = |task: &Task| matches!(firmware::standing(task), Standing::Runs(_));
            Ok(found.into_iter().filter(|(_, task)| runs(task)).map(|(path, _)| path).collect())
        })
        .await
    }

    /// What an update would send, as a line to read. Nothing but reads is sent.
    pub async fn preview_update(&self, image: &Image, target: Option<&str>) -> Result<String, Failure> {
        let known = self.firmware().await?;
        let request = self.limited(DOING, self.update_request(image, target, &known, DOING)).await?;
        let body = match (&request.body, &request.upload) {
            (Some(body), _) => body.to_string(),
            (None, Some(upload)) => {
                let parameters =
                    upload.parameters.as_ref().map(|p| format!("UpdateParameters {p}, ")).unwrap_or_default();
                format!("{parameters}{} bytes of {}", upload.size, upload.file.display())
            }
            (None, None) => String::new(),
        };
        Ok(format!("{} {} {body}", request.method, request.path))
    }

    /// Gives the path of the task.
    async fn start_update(
        &self,
        image: &Image,
        target: Option<&str>,
        known: &[Item],
        doing: &str,
    ) -> Result<Option<String>, Failure> {
        let request = self.update_request(image, target, known, doing).await?;
        // What takes the machine away, or may, is asked first.
        self.before_taking().await?;
        let answer = self.wire.ask(&request).await.map_err(|f| Failure { what: self.what(doing), ..f })?;
        Ok(firmware::task_of(answer.location.as_deref(), &answer.body))
    }

    async fn update_request(
        &self,
        image: &Image,
        target: Option<&str>,
        known: &[Item],
        doing: &str,
    ) -> Result<Request, Failure> {
        let view = self.fresh_view(false).await?;
        let (path, service) = service(&self.ground(&view), doing).await?;
        let refuse = |why: String| Failure::new(Cause::Refused, self.what(doing), why);
        let target = match target {
            Some(id) => match known.iter().find(|i| i.id == id) {
                Some(item) if item.updateable == Some(false) => {
                    return Err(refuse(format!("its firmware `{id}` cannot be updated, says the BMC")));
                }
                Some(item) => Some(item.path.as_str()),
                None => {
                    let ids: Vec<&str> = known.iter().map(|i| i.id.as_str()).take(32).collect();
                    return Err(refuse(format!("it has no firmware item `{id}`; it has {}", ids.join(", "))));
                }
            },
            None => None,
        };
        match image {
            Image::Address(address) => {
                let action = service.actions.and_then(|a| a.simple).unwrap_or_default();
                let Some(url) = action.target.clone().filter(|t| !t.is_empty()) else {
                    return Err(self.lacks(doing, "update from an address (SimpleUpdate)", &[&path]));
                };
                let body = firmware::simple_update(&action, address, target).map_err(refuse)?;
                Ok(Request { method: Method::POST, body: Some(body), ..Request::get(&url) })
            }
            Image::File(file) => {
                let Some((url, parameters)) = firmware::push(&service, target) else {
                    let what = "update from a file (MultipartHttpPushUri, HttpPushUri)";
                    return Err(self.lacks(doing, what, &[&path]));
                };
                let local = |e: std::io::Error| {
                    Failure::new(Cause::Local, self.what(doing), format!("{}: {e}", file.display()))
                };
                let size = tokio::fs::metadata(file).await.map_err(local)?.len();
                let most = service.most_bytes.filter(|n| *n > 0).unwrap_or(MAX_IMAGE_BYTES).min(MAX_IMAGE_BYTES);
                if size == 0 || size > most {
                    let why = format!("{} has {size} bytes; this BMC takes 1 to {most}", file.display());
                    return Err(refuse(why));
                }
                let upload = Upload { file: file.clone(), size, parameters };
                // Sent once: half an image that is sent again may be two.
                Ok(Request { method: Method::POST, upload: Some(upload), patient: false, ..Request::get(&url) })
            }
        }
    }

    /// `true`: it was seen to end well; `false`: it vanished.
    async fn follow(
        &self,
        task: &str,
        until: Instant,
        progress: &(dyn Fn(u32) + Send + Sync),
        doing: &str,
    ) -> Result<bool, Failure> {
        let (mut pause, mut told, mut vanished, mut away_since) = (POLL_FIRST, None, 0u32, None);
        loop {
            let seen: Result<(Task, _), Failure> = self.limited(doing, walk::get(&self.wire, task)).await;
            match seen {
                Ok((task, _)) => {
                    (vanished, away_since) = (0, None);
                    match firmware::standing(&task) {
                        Standing::Done => return Ok(true),
                        Standing::Failed(why) => {
                            let why = format!("the BMC's task failed: {why}");
                            return Err(Failure::new(Cause::Refused, self.what(doing), why)
                                .next(format!("rackctl bmc log {}", self.wire.node)));
                        }
                        Standing::Runs(percent) => {
                            if let Some(percent) = percent.filter(|p| told != Some(*p)) {
                                told = Some(percent);
                                progress(percent);
                            }
                        }
                    }
                }
                Err(failure) if failure.cause == Cause::Refused => {
                    vanished += 1;
                    if vanished >= VANISHED_TRIES {
                        return Ok(false);
                    }
                }
                Err(failure) if matches!(failure.cause, Cause::Unreachable | Cause::Deadline | Cause::Busy) => {
                    let since = *away_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > AWAY_MOST {
                        return Err(Failure { what: self.what(doing), ..failure });
                    }
                }
                Err(failure) => return Err(failure),
            }
            if Instant::now() >= until {
                let shown = told.map(|p| format!(" at {p} %")).unwrap_or_default();
                let why = format!("the BMC's task {task} still runs{shown}");
                return Err(Failure::new(Cause::Deadline, self.what(doing), why)
                    .next(format!("rackctl bmc firmware {}", self.wire.node)));
            }
            sleep(pause).await;
            pause = (pause * 3 / 2).min(POLL_MOST);
        }
    }

    /// The inventory, once the BMC answers again. While it starts it answers that it has none, or with errors.
    async fn back(&self, until: Instant, doing: &str) -> Result<Vec<Item>, Failure> {
        let (mut pause, mut odd_since) = (POLL_FIRST, None);
        loop {
            match self.firmware().await {
                Ok(items) => return Ok(items),
                Err(failure) => {
                    let away = matches!(failure.cause, Cause::Unreachable | Cause::Deadline | Cause::Busy);
                    let odd = matches!(failure.cause, Cause::Refused | Cause::Guard | Cause::Malformed);
                    let starts = odd && odd_since.get_or_insert_with(Instant::now).elapsed() < STARTS_WITHIN;
                    if away {
                        odd_since = None;
                    }
                    if Instant::now() >= until || !(away || starts) {
                        return Err(Failure { what: self.what(doing), ..failure });
                    }
                }
            }
            sleep(pause).await;
            pause = (pause * 3 / 2).min(POLL_MOST);
        }
    }
}
