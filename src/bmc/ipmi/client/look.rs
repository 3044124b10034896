//! Reads: what the BMC says of the machine, its sensors, its log and itself.

use super::{Client, Fail};
use crate::{
    bmc::{
        client::ManagerFacts,
        ipmi::{
            Fault,
            chassis::{self, ChassisStatus},
            completion::Completion,
            device::{self, Device},
            fru::{self, Inventory},
            guid,
            message::BMC,
            options::{self, Flags},
            sdr::{self, Sensor},
            sel::{self, Entry},
            sensor::{self, Reading, Thresholds},
            shown::{self, About},
            user::{self, User},
        },
        read,
    },
    model::{
        Failure,
        facts::BmcFacts,
        failure::Cause,
        power::{BootOverride, BootTarget, PowerState},
    },
};

/// Entries of one log that are read. The largest of BMCs hold 4 000 or so.
pub const MAX_ENTRIES: usize = 16_384;
const MAX_RECORDS: usize = 1024;
/// Bytes of an inventory that are read.
const MAX_INVENTORY: u16 = 4096;
/// Bytes that are asked for at once, and what is tried where a BMC cannot return so many.
const CHUNK: u8 = 64;
const CHUNK_LEAST: u8 = 8;
/// "The whole record".
const WHOLE: u8 = 0xFF;
/// How often a reservation may be lost to somebody else.
const RESERVATIONS: u32 = 8;

impl Client {
    pub async fn power(&self) -> Result<PowerState, Failure> {
        Ok(self.chassis().await?.power())
    }

    pub async fn chassis(&self) -> Result<ChassisStatus, Failure> {
        self.limited("read the power state", self.chassis_now()).await
    }

    pub(super) async fn chassis_now(&self) -> Result<ChassisStatus, Failure> {
        let data = self.get(&chassis::status()).await?;
        chassis::read_status(&data).map_err(|e| self.failure("read the power state", e.into()))
    }

    pub(super) async fn flags(&self) -> Result<Flags, Failure> {
        let data = self.get(&options::get_flags()).await?;
        options::read_flags(&data).map_err(|e| self.failure("read the boot override", e.into()))
    }

    /// The override in force. A device that has no word here (a floppy) is `Refused` with its name.
    pub async fn boot(&self) -> Result<BootOverride, Failure> {
        let doing = "read the boot override";
        self.limited(doing, async {
            self.flags().await?.read().map_err(|word| {
                let why = format!("it is set to `{word}`, which rackctl does not set");
                Failure::new(Cause::Refused, self.what(doing), why)
            })
        })
        .await
    }

    pub async fn device(&self) -> Result<Device, Failure> {
        self.limited("read about the BMC", self.device_now()).await
    }

    async fn device_now(&self) -> Result<Device, Failure> {
        let data = self.get(&device::get_id()).await?;
        device::read_id(&data).map_err(|e| self.failure("read about the BMC", e.into()))
    }

    /// The BMC itself: maker and firmware. IPMI has no name, and no clock that is worth showing.
    pub async fn bmc_info(&self) -> Result<ManagerFacts, Failure> {
        let device = self.device().await?;
        let product = format!("product 0x{:04x}", device.product);
        Ok(ManagerFacts {
            name: None,
            kind: Some("BMC".to_owned()),
            model: Some(device.maker().map_or(product.clone(), |maker| format!("{maker} {product}"))),
            firmware: Some(device.version()),
            date_time: None,
            console: vec!["IPMI".to_owned()],
        })
    }

    /// The machine as its BMC describes it: less than over Redfish, no disks and no network cards.
    pub async fn facts(&self) -> Result<BmcFacts, Failure> {
        self.limited("read facts", async {
            let chassis = self.chassis_now().await?;
            let device = self.device_now().await?;
            let flags = self.optional("read the boot override", self.ask(&options::get_flags()).await)?;
            let boot = flags.and_then(|data| options::read_flags(&data).ok()).and_then(|flags| flags.read().ok());
            let guid = self.optional("read the UUID", self.ask(&guid::get()).await)?;
            let uuid = guid.and_then(|data| guid::read(&data).ok()).flatten();
            // Without an inventory, or with one that makes no sense, the other facts count.
            let fru = self.fru_if_any().await?.unwrap_or_default();
            let text = |value: &Option<String>| read::text(value);
            let serial = text(&fru.serial).or(text(&fru.chassis_serial));
            // Dell's service tag, which Redfish shows as SKU, stands as the product's serial number here.
            let dell = device.maker() == Some("Dell");
            Ok(BmcFacts {
                endpoint: self.endpoint().to_owned(),
                manufacturer: text(&fru.manufacturer)
                    .or(text(&fru.board_manufacturer))
                    .or(device.maker().map(str::to_owned)),
                model: text(&fru.product).or(text(&fru.board_product)),
                sku: serial.clone().filter(|_| dell),
                serial,
                uuid,
                power: chassis.power(),
                boot,
                boot_targets: vec![
                    BootTarget::None,
                    BootTarget::Pxe,
                    BootTarget::Disk,
                    BootTarget::Cd,
                    BootTarget::Setup,
                ],
                drives: Vec::new(),
                macs: Vec::new(),
                cores: None,
                memory_bytes: None,
                bios_version: None,
                bmc_version: Some(device.version()),
                unread: Vec::new(),
            })
        })
        .await
    }

    /// What a BMC may refuse to say.
    fn optional(&self, doing: &str, result: Result<Vec<u8>, Fail>) -> Result<Option<Vec<u8>>, Failure> {
        match result {
            Ok(data) => Ok(Some(data)),
            Err(fail) if fail.is_refusal() => Ok(None),
            Err(fail) => Err(self.told(doing, fail)),
        }
    }

    pub async fn sel_info(&self) -> Result<sel::Info, Failure> {
        let doing = "read the event log's state";
        self.limited(doing, async {
            let data = self.get(&sel::get_info()).await?;
            sel::read_info(&data).map_err(|e| self.failure(doing, e.into()))
        })
        .await
    }

    /// All entries of the event log, oldest first.
    pub async fn sel(&self) -> Result<Vec<Entry>, Failure> {
        let doing = "read the event log";
        self.limited(doing, async {
            let mut reservation = self.reservation(&sel::reserve()).await?;
            let (mut entries, mut next, mut lost) = (Vec::new(), sel::FIRST, 0);
            loop {
                let data = match self.ask(&sel::get_entry(reservation, next)).await {
                    Ok(data) => data,
                    // An empty log has no first entry.
                    Err(Fail::Bmc(Fault::Completed(Completion::NOT_PRESENT))) if next == sel::FIRST => {
                        return Ok(entries);
                    }
                    Err(Fail::Bmc(Fault::Completed(Completion::RESERVATION_CANCELLED))) if lost < RESERVATIONS => {
                        lost += 1;
                        reservation = self.reservation(&sel::reserve()).await?;
                        continue;
                    }
                    Err(fail) => return Err(self.told(doing, fail)),
                };
                let (following, entry) = Entry::read(&data).map_err(|e| self.failure(doing, e.into()))?;
                entries.push(entry);
                if following == sel::LAST {
                    return Ok(entries);
                }
                if entries.len() >= MAX_ENTRIES {
                    let why = format!("it does not end after {MAX_ENTRIES} entries");
                    return Err(Failure::new(Cause::Malformed, self.what(doing), why));
                }
                next = following;
            }
        })
        .await
    }

    async fn reservation(&self, command: &super::Command) -> Result<u16, Failure> {
        match self.ask(command).await {
            Ok(data) => sel::read_reservation(&data).map_err(|e| self.failure(command.name, e.into())),
            // Without reservations none is needed.
            Err(Fail::Bmc(Fault::Completed(Completion::INVALID_COMMAND))) => Ok(0),
            Err(fail) => Err(self.told(command.name, fail)),
        }
    }

    /// Every sensor of the repository with what it says now.
    pub async fn sensors(&self) -> Result<Vec<Reading>, Failure> {
        self.limited("read the sensors", async {
            let mut readings = Vec::new();
            for found in self.repository().await? {
                readings.push(self.reading(found).await?);
            }
            Ok(readings)
        })
        .await
    }

    async fn reading(&self, found: Sensor) -> Result<Reading, Failure> {
        let doing = format!("read sensor {}", found.name);
        // Sensors of other controllers, and of other logical units, are asked for on ways that rackctl does not go.
        let ours = found.owner == BMC && found.lun == 0;
        let silent = sensor::Raw { reading: 0, available: false, states: 0 };
        let raw = match ours {
            true => self.optional(&doing, self.ask(&sensor::get(found.number)).await)?,
            false => None,
        };
        let raw = match raw {
            Some(data) => sensor::read(&data).map_err(|e| self.failure(&doing, e.into()))?,
            None => silent,
        };
        let mut thresholds = Thresholds::default();
        if ours && found.is_threshold() && found.formula.is_some() {
            let data = self.optional(&doing, self.ask(&sensor::get_thresholds(found.number)).await)?;
            thresholds = data.and_then(|data| sensor::read_thresholds(&found, &data).ok()).unwrap_or_default();
        }
        Ok(sensor::reading(found, raw, thresholds))
    }

    async fn repository(&self) -> Result<Vec<Sensor>, Failure> {
        let doing = "read the sensor records";
        let mut reservation = self.reservation(&sdr::reserve()).await?;
        let (mut sensors, mut next, mut lost, mut chunk) = (Vec::new(), sdr::FIRST, 0, WHOLE);
        for _ in 0..MAX_RECORDS {
            let (following, record) = match self.record(reservation, next, &mut chunk).await {
                Ok(found) => found,
                Err(Fail::Bmc(Fault::Completed(Completion::RESERVATION_CANCELLED))) if lost < RESERVATIONS => {
                    lost += 1;
                    reservation = self.reservation(&sdr::reserve()).await?;
                    continue;
                }
                Err(Fail::Bmc(Fault::Completed(Completion::NOT_PRESENT))) if next == sdr::FIRST => return Ok(sensors),
                Err(fail) => return Err(self.told(doing, fail)),
            };
            // One record that makes no sense does not hide the others.
            if let Ok(Some(found)) = sdr::decode(&record) {
                sensors.push(found);
            }
            if following == sdr::LAST {
                return Ok(sensors);
            }
            next = following;
        }
        let why = format!("they do not end after {MAX_RECORDS} records");
        Err(Failure::new(Cause::Malformed, self.what(doing), why))
    }

    /// A whole record, in as few pieces as this BMC can.
    async fn record(&self, reservation: u16, id: u16, chunk: &mut u8) -> Result<(u16, Vec<u8>), Fail> {
        if *chunk == WHOLE {
            match self.ask(&sdr::get(reservation, id, 0, WHOLE)).await {
                Ok(data) => {
                    let (next, record) = sdr::read(&data).map_err(|e| Fail::Bmc(e.into()))?;
                    return Ok((next, record.to_vec()));
                }
                Err(Fail::Bmc(Fault::Completed(code))) if is_size(code) => *chunk = CHUNK / 2,
                Err(fail) => return Err(fail),
            }
        }
        let header = self.ask(&sdr::get(reservation, id, 0, sdr::HEADER_BYTES)).await?;
        let (next, header) = sdr::read(&header).map_err(|e| Fail::Bmc(e.into()))?;
        let mut record = header.to_vec();
        let end = sdr::HEADER_BYTES.saturating_add(sdr::length(header).map_err(|e| Fail::Bmc(e.into()))?);
        while record.len() < usize::from(end) {
            let at = u8::try_from(record.len()).unwrap_or(u8::MAX);
            let count = (end - at).min(*chunk);
            match self.ask(&sdr::get(reservation, id, at, count)).await {
                Ok(data) => {
                    let (_, piece) = sdr::read(&data).map_err(|e| Fail::Bmc(e.into()))?;
                    if piece.is_empty() {
                        return Err(Fail::Bmc(Fault::Senseless("a piece of a sensor record is empty".into())));
                    }
                    record.extend(piece);
                }
                Err(Fail::Bmc(Fault::Completed(code))) if is_size(code) && *chunk > CHUNK_LEAST => *chunk /= 2,
                Err(fail) => return Err(fail),
            }
        }
        Ok((next, record))
    }

    pub async fn fru(&self) -> Result<Inventory, Failure> {
        self.limited("read the inventory", self.fru_now()).await
    }

    async fn fru_if_any(&self) -> Result<Option<Inventory>, Failure> {
        match self.fru_now().await {
            Ok(fru) => Ok(Some(fru)),
            Err(failure) if matches!(failure.cause, Cause::Refused | Cause::Malformed) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The BMC's description of itself, with the inventory records.
    pub async fn about(&self) -> Result<About, Failure> {
        let doing = "read about the BMC";
        self.limited(doing, async { Ok(shown::about(&self.device_now().await?, self.fru_if_any().await?)) }).await
    }

    async fn fru_now(&self) -> Result<Inventory, Failure> {
        let doing = "read the inventory";
        let fail = |fault: Fault| self.failure(doing, fault);
        let info = self.get(&fru::get_info(fru::SYSTEM)).await?;
        let size = fru::read_info(&info).map_err(fail)?.min(MAX_INVENTORY);
        let (mut bytes, mut chunk) = (Vec::new(), CHUNK);
        while bytes.len() < usize::from(size) {
            let at = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
            let count = u8::try_from((size - at).min(u16::from(chunk))).unwrap_or(chunk);
            match self.ask(&fru::get(fru::SYSTEM, at, count)).await {
                Ok(data) => {
                    let piece = fru::read(&data).map_err(|e| fail(e.into()))?;
                    if piece.is_empty() {
                        break;
                    }
                    bytes.extend(piece);
                }
                Err(Fail::Bmc(Fault::Completed(code))) if is_size(code) && chunk > CHUNK_LEAST => chunk /= 2,
                Err(other) => return Err(self.told(doing, other)),
            }
        }
        fru::decode(&bytes).map_err(fail)
    }

    /// The accounts that have a name.
    pub async fn users(&self) -> Result<Vec<User>, Failure> {
        let doing = "list users";
        self.limited(doing, async {
            let mut users = Vec::new();
            let mut number = 1;
            loop {
                let access = self.get(&user::get_access(number)).await?;
                let access = user::read_access(&access).map_err(|e| self.failure(doing, e.into()))?;
                let most = access.most;
                let name = self.optional(doing, self.ask(&user::get_name(number)).await)?;
                let name = name.and_then(|data| user::read_name(&data).ok()).unwrap_or_default();
                if !name.is_empty() {
                    users.push(User { number, name, access });
                }
                if number >= most {
                    return Ok(users);
                }
                number += 1;
            }
        })
        .await
    }
}

/// The BMC cannot return so many bytes at once. Not all say so with the code that is meant for it.
fn is_size(code: Completion) -> bool {
    matches!(
        code,
        Completion::CANNOT_RETURN_SO_MANY
            | Completion::LENGTH
            | Completion::LIMIT
            | Completion::RANGE
            | Completion::INVALID_FIELD
            | Completion(0xFF)
    )
}
