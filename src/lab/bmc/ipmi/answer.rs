//! Commands and what comes of them. Writes stand in the BMC's log of requests, as those of Redfish do.

use std::{sync::Arc, time::SystemTime};

use super::{Service, boot, records};
use crate::{
    bmc::{
        ipmi::{
            Suite,
            bytes::{Reader, Short},
            chassis::{ChassisStatus, Control},
            completion::Completion,
            device::{self, Device, Offers},
            guid,
            message::{Message, function},
            options::{self, Flags},
            rakp::Privilege,
            rmcp::MAX_PAYLOAD_BYTES,
        },
        redfish::wire::PowerWord,
    },
    lab::bmc::{
        Fault, LogEntry,
        chassis::Chassis,
        power::{ResetKind, Taken},
    },
};

/// Bytes of a record at once, where the BMC is set to be small.
const SMALL_READ: usize = 16;
const MOST_READ: usize = 200;

/// A completion code and the data behind it.
pub(super) struct Done {
    pub code: Completion,
    pub data: Vec<u8>,
    /// The answer is lost on purpose.
    pub lost: bool,
    /// The session ends with this answer.
    pub ends: Option<u32>,
}

pub(super) fn done(data: impl Into<Vec<u8>>) -> Done {
    Done { code: Completion::OK, data: data.into(), lost: false, ends: None }
}
pub(super) fn refuse(code: Completion) -> Done {
    Done { code, data: Vec::new(), lost: false, ends: None }
}
/// A code of the command's own.
pub(super) fn special(code: u8) -> Done {
    refuse(Completion(code))
}

impl<C: Chassis> Service<C> {
    /// Outside of a session.
    pub(super) async fn bare(&self, request: &Message) -> Option<Message> {
        let answer = match (request.function, request.command) {
            (function::APP, 0x38) => {
                let asked = request.data.first().is_some_and(|channel| channel & 0x80 != 0);
                let speaks_2 = asked && !self.bmc.has(Fault::IpmiOld);
                // Channel 1; RMCP+ only; named users with passwords; IPMI 2.0.
                let types = if speaks_2 { 0x80 } else { 0x00 };
                done([0x01, types, 0x04, 0x02, 0, 0, 0, 0])
            }
            (function::APP, 0x54) => self.suites(&request.data),
            (function::APP, 0x37) => done(guid::encode(self.bmc.description.uuid)),
            _ => refuse(Completion::PRIVILEGE),
        };
        Some(request.answer(answer.code.0, &answer.data))
    }

    /// Get Channel Cipher Suites (22.15): one record a suite.
    fn suites(&self, data: &[u8]) -> Done {
        let index = usize::from(data.get(2).copied().unwrap_or(0) & 0x3F);
        let records: Vec<u8> = self
            .offers()
            .iter()
            .rev()
            .flat_map(|suite| {
                let a = suite.algorithms();
                [0xC0, suite.number(), a.authentication, 0x40 | a.integrity, 0x80 | a.confidentiality]
            })
            .collect();
        let mut answer = vec![0x01];
        answer.extend(records.chunks(16).nth(index).unwrap_or_default());
        done(answer)
    }

    pub(super) fn offers(&self) -> &'static [Suite] {
        if self.bmc.has(Fault::IpmiNoSuite17) { &[Suite::Three] } else { &Suite::ALL }
    }

    /// Within a session.
    pub(super) async fn answer(&self, session: u32, request: &Message) -> Done {
        let privilege = self.inside().sessions.get(session).map_or(Privilege::User, |s| s.privilege);
        let data = request.data.as_slice();
        let needs = |least: Privilege| privilege >= least;
        let session_own = request.function == function::APP && matches!(request.command, 0x3B | 0x3C);
        if !session_own && self.bmc.state().spend(Fault::IpmiBusy) {
            return refuse(Completion::BUSY);
        }
        let write = is_write(request);
        if write && !needs(Privilege::Operator) {
            return refuse(Completion::PRIVILEGE);
        }
        let result = match request.function {
            function::CHASSIS => self.chassis(request.command, data).await,
            function::SENSOR => self.sensors(request.command, data).await,
            function::APP
                if needs(Privilege::Administrator) || !matches!(request.command, 0x43..=0x47 | 0x02 | 0x03) =>
            {
                self.app(session, request.command, data)
            }
            function::APP => Ok(refuse(Completion::PRIVILEGE)),
            function::STORAGE => self.storage(request.command, data),
            _ => Ok(refuse(Completion::INVALID_COMMAND)),
        };
        let answer = result.unwrap_or_else(|Short(_)| refuse(Completion::LENGTH));
        if write {
            let path = format!("ipmi 0x{:02x} 0x{:02x} {}", request.function, request.command, self.shown(request));
            self.bmc.record(LogEntry {
                at: SystemTime::now(),
                method: "IPMI".into(),
                path: path.trim_end().to_owned(),
                status: u16::from(answer.code.0),
                user: Some(self.bmc.account.user.clone()),
                session: Some(format!("{session:08x}")),
                context: None,
            });
        }
        answer
    }

    /// The data of a write; what may be a password is not shown.
    fn shown(&self, request: &Message) -> String {
        match (request.function, request.command) {
            (function::APP, _) => String::new(),
            _ => request.data.iter().take(16).map(|b| format!("{b:02x}")).collect(),
        }
    }

    async fn chassis(&self, command: u8, data: &[u8]) -> Result<Done, Short> {
        let mut reader = Reader::new(data);
        Ok(match command {
            // Capabilities: FRU, SDR, SEL and management at the BMC itself.
            0x00 => done([0x00, 0x20, 0x20, 0x20, 0x20]),
            0x01 => {
                let on = !matches!(self.bmc.power_word().await, PowerWord::Off | PowerWord::PoweringOn);
                let status = ChassisStatus {
                    on,
                    overload: false,
                    interlock: false,
                    power_fault: false,
                    last_on_by_command: on,
                    intrusion: false,
                    drive_fault: false,
                    cooling_fault: false,
                };
                done(status.encode())
            }
            0x02 => match Control::of(reader.u8("control")?) {
                Some(control) => self.control(control).await,
                None => refuse(Completion::INVALID_FIELD),
            },
            // Identify: there is no lamp, and nothing else comes of it.
            0x04 => done([]),
            0x07 => done([0x01, 0x00]),
            0x08 => self.set_boot(&mut reader)?,
            0x09 => self.get_boot(reader.u8("parameter")?),
            _ => refuse(Completion::INVALID_COMMAND),
        })
    }

    async fn control(&self, control: Control) -> Done {
        let kind = match control {
            Control::Up => ResetKind::On,
            Control::Down => ResetKind::ForceOff,
            Control::Cycle | Control::HardReset => ResetKind::Restart,
            Control::Soft => ResetKind::GracefulShutdown,
            Control::Diagnostic => ResetKind::Nmi,
        };
        let lost = self.bmc.has(Fault::LoseResetAnswer);
        let taken = Arc::clone(&self.bmc).reset(kind).await;
        if taken == Taken::Yes {
            let (sensor_type, offset) = match control {
                Control::Up => (0x1D, 0),
                Control::HardReset => (0x1D, 1),
                Control::Cycle => (0x09, 1),
                // Critical interrupt: a diagnostic one.
                Control::Diagnostic => (0x13, 0),
                _ => (0x09, 0),
            };
            self.inside().records.add(records::event(sensor_type, 0x10, 0x6F, offset));
        }
        match taken {
            Taken::Yes => Done { lost, ..done([]) },
            Taken::Busy => refuse(Completion::BUSY),
            Taken::Conflict => refuse(Completion::NOT_NOW),
        }
    }

    fn set_boot(&self, reader: &mut Reader<'_>) -> Result<Done, Short> {
        let parameter = reader.u8("parameter")? & 0x7F;
        match parameter {
            options::PARAMETER_FLAGS => {
                let flags = Flags(reader.array("boot flags")?);
                let mut state = self.bmc.state();
                let Some(wanted) = boot::state(flags, state.boot) else { return Ok(refuse(Completion::INVALID_FIELD)) };
                let ignored = state.effective.text(Fault::IgnoreBootOverride) == Some("all");
                if ignored || state.has(Fault::IpmiBootIgnored) {
                    return Ok(done([]));
                }
                let stale = boot::stale(flags).filter(|_| state.has(Fault::IpmiBootInvalid));
                state.boot = if stale.is_some() { boot::none(state.boot) } else { wanted };
                state.version += 1;
                drop(state);
                self.inside().records.stale_flags = stale;
                Ok(done([]))
            }
            options::PARAMETER_CLEARING if self.bmc.has(Fault::IpmiNoParameter3) => Ok(special(0x80)),
            0..=4 => {
                self.inside().records.boot_options.insert(parameter, reader.rest().iter().take(3).copied().collect());
                Ok(done([]))
            }
            // Parameter not supported.
            _ => Ok(special(0x80)),
        }
    }

    fn get_boot(&self, parameter: u8) -> Done {
        let parameter = parameter & 0x7F;
        let mut answer = vec![0x01, parameter];
        match parameter {
            options::PARAMETER_FLAGS => {
                let stale = self.inside().records.stale_flags.filter(|_| self.bmc.has(Fault::IpmiBootInvalid));
                answer.extend(stale.unwrap_or_else(|| boot::flags(self.bmc.state().boot)).0);
            }
            options::PARAMETER_CLEARING if self.bmc.has(Fault::IpmiNoParameter3) => return special(0x80),
            0..=4 => {
                let kept = self.inside().records.boot_options.get(&parameter).cloned();
                answer.extend(kept.unwrap_or_else(|| vec![0; if parameter == 4 { 2 } else { 1 }]));
            }
            _ => return special(0x80),
        }
        done(answer)
    }

    async fn sensors(&self, command: u8, data: &[u8]) -> Result<Done, Short> {
        let number = Reader::new(data).u8("sensor")?;
        let on = self.bmc.power_word().await == PowerWord::On;
        Ok(match (command, number) {
            (0x2D, records::TEMPERATURE | records::FAN) if !on => done([0x00, 0xE0, 0xC0]),
            (0x2D, records::TEMPERATURE) => done([42, 0xC0, 0xC0]),
            (0x2D, records::FAN) => done([70, 0xC0, 0xC0]),
            (0x2D, records::POWER) => done([if on { 30 } else { 2 }, 0xC0, 0xC0]),
            (0x2D, records::SUPPLY) => done([0x00, 0xC0, 0x01, 0x80]),
            (0x27, records::TEMPERATURE) => done([0x10, 0, 0, 0, 0, 95, 0]),
            (0x27, records::FAN | records::POWER) => done([0x00, 0, 0, 0, 0, 0, 0]),
            // Hysteresis, event enables.
            (0x25, records::TEMPERATURE..=records::POWER) => done([2, 2]),
            (0x29, records::TEMPERATURE..=records::SUPPLY) => done([0xC0, 0x00, 0x02, 0x00, 0x02]),
            (0x25 | 0x27 | 0x29 | 0x2D, _) => refuse(Completion::NOT_PRESENT),
            _ => refuse(Completion::INVALID_COMMAND),
        })
    }

    fn app(&self, session: u32, command: u8, data: &[u8]) -> Result<Done, Short> {
        let mut reader = Reader::new(data);
        Ok(match command {
            0x01 => {
                let device = Device {
                    id: 0x20,
                    revision: 1,
                    firmware: (1, 0),
                    starting: false,
                    ipmi: (2, 0),
                    // Sensors, SDR, SEL, FRU, chassis.
                    offers: Offers(0x8F),
                    manufacturer: match self.bmc.now_faults().text(Fault::Maker) {
                        Some("Supermicro") => device::SUPERMICRO,
                        _ => 0,
                    },
                    product: 1,
                };
                done(device.encode())
            }
            0x02 | 0x03 => {
                self.bmc.drop_sessions();
                self.inside().sessions.forget();
                Done { lost: true, ..done([]) }
            }
            // Self test: passed.
            0x04 => done([0x55, 0x00]),
            0x08 | 0x37 => done(guid::encode(self.bmc.description.uuid)),
            0x38 => done([0x01, 0x80, 0x04, 0x02, 0, 0, 0, 0]),
            0x3B => self.set_privilege(session, reader.u8("privilege")?),
            0x3C => {
                let id = reader.u32("session")?;
                match self.inside().sessions.get(id) {
                    Some(_) => Done { ends: Some(id), ..done([]) },
                    None => special(0x87),
                }
            }
            // Channel 1: LAN over 802.3, IPMB protocol, many sessions.
            0x42 => done([0x01, 0x04, 0x01, 0x80, 0xF2, 0x1B, 0x00, 0, 0]),
            0x54 => self.suites(data),
            0x43..=0x47 => self.users(command, data)?,
            // Payload support: IPMI and SOL, and those of the handshake.
            0x4E => done([0x03, 0x00, 0x3F, 0x00, 0, 0, 0, 0]),
            0x48 | 0x49 => refuse(Completion::NOT_NOW),
            _ => refuse(Completion::INVALID_COMMAND),
        })
    }

    fn set_privilege(&self, session: u32, wanted: u8) -> Done {
        let limit = self.limit();
        let mut inside = self.inside();
        let Some(open) = inside.sessions.get(session) else { return special(0x87) };
        match Privilege::of(wanted) {
            None if wanted & 0x0F == 0 => done([open.privilege.number()]),
            None => special(0x80),
            Some(level) if level > open.most || level > limit => special(0x81),
            Some(level) => {
                open.privilege = level;
                done([level.number()])
            }
        }
    }

    pub(super) fn limit(&self) -> Privilege {
        match self.bmc.now_faults().text(Fault::IpmiPrivilege) {
            Some("user") => Privilege::User,
            Some(_) => Privilege::Operator,
            None => Privilege::Administrator,
        }
    }

    fn storage(&self, command: u8, data: &[u8]) -> Result<Done, Short> {
        let mut reader = Reader::new(data);
        let most = if self.bmc.has(Fault::IpmiSmallReads) { SMALL_READ } else { MOST_READ.min(MAX_PAYLOAD_BYTES) };
        let mut inside = self.inside();
        let records = &mut inside.records;
        Ok(match command {
            0x10 => match reader.u8("unit")? {
                0 => {
                    let mut answer = (records.fru.len() as u16).to_le_bytes().to_vec();
                    answer.push(0);
                    done(answer)
                }
                _ => refuse(Completion::NOT_PRESENT),
            },
            0x11 => {
                let unit = reader.u8("unit")?;
                let (offset, count) = (usize::from(reader.u16("offset")?), usize::from(reader.u8("count")?));
                match records.fru.get(offset..) {
                    _ if unit != 0 => refuse(Completion::NOT_PRESENT),
                    Some(rest) if count <= most => {
                        let piece: Vec<u8> = rest.iter().take(count).copied().collect();
                        let mut answer = vec![piece.len() as u8];
                        answer.extend(piece);
                        done(answer)
                    }
                    Some(_) => refuse(Completion::CANNOT_RETURN_SO_MANY),
                    None => refuse(Completion::RANGE),
                }
            }
            0x20 => {
                let mut answer = vec![0x51];
                answer.extend((records.sensors.len() as u16).to_le_bytes());
                answer.extend([0xFF, 0xFF]);
                answer.extend([0; 8]);
                answer.push(0x02);
                done(answer)
            }
            0x22 | 0x42 => {
                records.reservation = records.reservation.wrapping_add(1).max(1);
                done(records.reservation.to_le_bytes())
            }
            0x23 => {
                let (reservation, id) = (reader.u16("reservation")?, reader.u16("record")?);
                let [offset, count] = reader.array("piece")?;
                if offset > 0 && reservation != records.reservation {
                    return Ok(refuse(Completion::RESERVATION_CANCELLED));
                }
                let Some((record, next)) = records.sensor(id) else { return Ok(refuse(Completion::NOT_PRESENT)) };
                let Some(rest) = record.get(usize::from(offset)..) else { return Ok(refuse(Completion::RANGE)) };
                let count = if count == 0xFF { rest.len() } else { usize::from(count) };
                if count > most {
                    return Ok(refuse(Completion::CANNOT_RETURN_SO_MANY));
                }
                let mut answer = next.to_le_bytes().to_vec();
                answer.extend(rest.iter().take(count));
                done(answer)
            }
            0x40 => {
                let mut answer = vec![0x51];
                answer.extend((records.events().len() as u16).to_le_bytes());
                answer.extend(0x2000u16.to_le_bytes());
                let last = records.events().last().and_then(|e| e.at).unwrap_or(u32::MAX);
                answer.extend(last.to_le_bytes());
                answer.extend(records.erased_at.unwrap_or(u32::MAX).to_le_bytes());
                answer.push(0x02 | if records.overflow { 0x80 } else { 0 });
                done(answer)
            }
            0x43 => {
                let (_, id) = (reader.u16("reservation")?, reader.u16("record")?);
                let [offset, count] = reader.array("piece")?;
                let Some((entry, next)) = records.event(id) else { return Ok(refuse(Completion::NOT_PRESENT)) };
                let mut answer = next.to_le_bytes().to_vec();
                answer.extend(entry.encode().iter().skip(usize::from(offset)).take(usize::from(count)));
                done(answer)
            }
            0x47 => {
                let reservation = reader.u16("reservation")?;
                let [c, l, r, operation] = reader.array("erasure")?;
                match operation {
                    _ if [c, l, r] != *b"CLR" => refuse(Completion::INVALID_FIELD),
                    _ if reservation != records.reservation => refuse(Completion::RESERVATION_CANCELLED),
                    0xAA => {
                        records.erase();
                        done([0x01])
                    }
                    0x00 => done([0x01]),
                    _ => refuse(Completion::INVALID_FIELD),
                }
            }
            0x48 => done(records::unix_now().to_le_bytes()),
            _ => refuse(Completion::INVALID_COMMAND),
        })
    }
}

/// Changes something other than its own session.
fn is_write(request: &Message) -> bool {
    match (request.function, request.command) {
        (function::CHASSIS, 0x02 | 0x04 | 0x08) | (function::STORAGE, 0x47) => {
            // "How far is the erasure?" is none.
            !(request.function == function::STORAGE && request.data.get(5) == Some(&0))
        }
        (function::APP, 0x02 | 0x03 | 0x43 | 0x45) => true,
        // Testing a password changes nothing.
        (function::APP, 0x47) => request.data.get(1).is_some_and(|operation| operation & 0x03 != 3),
        _ => false,
    }
}
