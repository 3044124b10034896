//! Serial over LAN (IPMI 2.0, 15; 24.1 to 24.2): a byte stream over numbered, acknowledged packets. Pure, and the same
//! from both ends.

use std::{collections::VecDeque, time::Duration};

use super::{
    bytes::{Reader, Short},
    completion::Completion,
    fault::Fault,
    message::{Command, Effect, function},
};

/// Payload type and instance.
const SOL: u8 = 0x01;
const INSTANCE: u8 = 0x01;
/// Encrypted and authenticated.
const PROTECTED: u8 = 0xC0;
const HEADER_BYTES: usize = 4;
/// Data of one packet, whatever the BMC offers.
const MAX_CHUNK: usize = 200;
/// Typed and not yet sent.
pub const MAX_QUEUED_BYTES: usize = 64 * 1024;
const RETRY: Duration = Duration::from_secs(1);
const TRIES: u32 = 8;
/// Sequence numbers are 1 to 15; 0 is of a packet that only acknowledges.
const LAST_SEQUENCE: u8 = 15;

/// Bits of the fourth byte, to the BMC.
pub const NACK: u8 = 0x40;
pub const BREAK: u8 = 0x10;
/// And from it.
pub const UNAVAILABLE: u8 = 0x20;
pub const DEACTIVATING: u8 = 0x10;

/// App 0x48.
pub fn activate() -> Command {
    Command::new(function::APP, 0x48, "activate serial over LAN", Effect::Sets, [SOL, INSTANCE, PROTECTED, 0, 0, 0])
}

/// App 0x49.
pub fn deactivate() -> Command {
    Command::new(function::APP, 0x49, "deactivate serial over LAN", Effect::Sets, [SOL, INSTANCE, 0, 0, 0, 0])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activated {
    /// Data of one packet to the BMC.
    pub chunk: usize,
    pub port: u16,
}

pub fn read_activated(data: &[u8]) -> Result<Activated, Short> {
    let mut reader = Reader::new(data);
    let _ = reader.take(4, "activation")?;
    let inbound = usize::from(reader.u16("size of packets")?);
    let _outbound = reader.u16("size of packets")?;
    let port = reader.u16("port")?;
    // Some BMCs leave the size at 0.
    let chunk = if inbound > HEADER_BYTES { (inbound - HEADER_BYTES).min(MAX_CHUNK) } else { MAX_CHUNK };
    Ok(Activated { chunk, port })
}

/// The words of this command's own completion codes (24.1).
pub fn refusal(fault: Fault) -> Fault {
    let Fault::Completed(Completion(code)) = fault else { return fault };
    let word = match code {
        0x80 => "serial over LAN is in use by another session",
        0x81 => "serial over LAN is disabled at this BMC",
        0x82 => "no more payloads can be active",
        0x83 => "the BMC cannot encrypt serial over LAN",
        0x84 => "the BMC does not do serial over LAN without encryption",
        _ => return fault,
    };
    Fault::CompletedWith(code, word)
}

/// Deactivating what is not active is done.
pub fn is_inactive(fault: &Fault) -> bool {
    fault.code() == Some(0x80)
}

/// One packet's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// 0: nothing to acknowledge.
    pub sequence: u8,
    /// 0: acknowledges nothing.
    pub acknowledged: u8,
    pub accepted: u8,
    pub control: u8,
    pub data: Vec<u8>,
}

impl Packet {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.sequence, self.acknowledged, self.accepted, self.control];
        bytes.extend(&self.data);
        bytes
    }
    pub fn decode(bytes: &[u8]) -> Result<Packet, Short> {
        let mut reader = Reader::new(bytes);
        let [sequence, acknowledged, accepted, control] = reader.array("header of serial over LAN")?;
        Ok(Packet {
            sequence: sequence & 0x0F,
            acknowledged: acknowledged & 0x0F,
            accepted,
            control,
            data: reader.rest().to_vec(),
        })
    }
}

struct Flight {
    packet: Packet,
    tries: u32,
    due: Duration,
}

/// What came of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub payloads: Vec<Vec<u8>>,
    pub data: Vec<u8>,
    /// The control byte of what arrived.
    pub control: u8,
    /// Nobody acknowledges any more.
    pub silent: bool,
}

/// One end of the stream.
pub struct Channel {
    queue: VecDeque<u8>,
    breaks: u32,
    flight: Option<Flight>,
    sent: u8,
    /// The last packet of the other end: number and length, to know one that comes twice.
    heard: (u8, usize),
    chunk: usize,
}

impl Channel {
    pub fn new(chunk: usize) -> Channel {
        let chunk = chunk.clamp(1, MAX_CHUNK);
        Channel { queue: VecDeque::new(), breaks: 0, flight: None, sent: 0, heard: (0, 0), chunk }
    }

    pub fn wake(&self) -> Option<Duration> {
        self.flight.as_ref().map(|flight| flight.due)
    }

    /// Everything that was given has been acknowledged.
    pub fn is_idle(&self) -> bool {
        self.flight.is_none() && self.queue.is_empty() && self.breaks == 0
    }

    /// Bytes to send; returns how many were taken (the queue has a limit).
    pub fn send(&mut self, now: Duration, bytes: &[u8], progress: &mut Progress) -> usize {
        let taken = bytes.len().min(MAX_QUEUED_BYTES.saturating_sub(self.queue.len()));
        self.queue.extend(bytes.iter().take(taken));
        self.advance(now, progress);
        taken
    }

    /// A break, after what was given before it… and before what is given later.
    pub fn send_break(&mut self, now: Duration, progress: &mut Progress) {
        self.breaks = self.breaks.saturating_add(1);
        self.advance(now, progress);
    }

    pub fn received(&mut self, now: Duration, payload: &[u8], progress: &mut Progress) {
        let Ok(packet) = Packet::decode(payload) else { return };
        progress.control |= packet.control;
        if packet.sequence != 0 {
            // One that comes again may bring more than before (15.11).
            let known = if self.heard.0 == packet.sequence { self.heard.1 } else { 0 };
            progress.data.extend(packet.data.get(known..).unwrap_or_default());
            self.heard = (packet.sequence, packet.data.len());
            let accepted = u8::try_from(packet.data.len()).unwrap_or(u8::MAX);
            let acknowledgement =
                Packet { sequence: 0, acknowledged: packet.sequence, accepted, control: 0, data: Vec::new() };
            progress.payloads.push(acknowledgement.encode());
        }
        self.acknowledged(now, &packet);
        self.advance(now, progress);
    }

    fn acknowledged(&mut self, now: Duration, packet: &Packet) {
        let Some(flight) = self.flight.as_mut().filter(|f| packet.acknowledged == f.packet.sequence) else { return };
        if packet.control & NACK != 0 {
            // "Later": the same again after a while.
            flight.due = now + RETRY;
            return;
        }
        let rest: Vec<u8> = flight.packet.data.iter().skip(usize::from(packet.accepted)).copied().collect();
        self.flight = None;
        for byte in rest.into_iter().rev() {
            self.queue.push_front(byte);
        }
    }

    pub fn tick(&mut self, now: Duration, progress: &mut Progress) {
        let Some(flight) = self.flight.as_mut().filter(|flight| flight.due <= now) else { return };
        if flight.tries >= TRIES {
            progress.silent = true;
            self.flight = None;
            return;
        }
        flight.tries += 1;
        flight.due = now + RETRY;
        progress.payloads.push(flight.packet.encode());
    }

    fn advance(&mut self, now: Duration, progress: &mut Progress) {
        if self.flight.is_some() || (self.queue.is_empty() && self.breaks == 0) {
            return;
        }
        let count = self.queue.len().min(self.chunk);
        let data: Vec<u8> = self.queue.drain(..count).collect();
        let mut control = 0;
        if data.is_empty() {
            self.breaks -= 1;
            control = BREAK;
        }
        self.sent = if self.sent >= LAST_SEQUENCE { 1 } else { self.sent + 1 };
        let packet = Packet { sequence: self.sent, acknowledged: 0, accepted: 0, control, data };
        progress.payloads.push(packet.encode());
        self.flight = Some(Flight { packet, tries: 1, due: now + RETRY });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two ends and a network that loses, repeats and delays as `fates` say; returns what each end got.
    fn talk(to_bmc: &[u8], to_console: &[u8], fates: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut console, mut bmc) = (Channel::new(30), Channel::new(50));
        let (mut at_bmc, mut at_console) = (Vec::new(), Vec::new());
        let mut fates = fates.iter().copied().cycle();
        let mut wires: Vec<(bool, Vec<u8>)> = Vec::new();
        let (mut now, mut losses) = (Duration::ZERO, 0);
        let mut first = Progress::default();
        console.send(now, to_bmc, &mut first);
        wires.extend(first.payloads.into_iter().map(|p| (true, p)));
        let mut second = Progress::default();
        bmc.send(now, to_console, &mut second);
        wires.extend(second.payloads.into_iter().map(|p| (false, p)));
        for round in 0..4000u32 {
            if wires.is_empty() && console.is_idle() && bmc.is_idle() {
                break;
            }
            let mut next = Vec::new();
            for (towards_bmc, payload) in wires.drain(..) {
                // Fewer are lost than a line needs to be silent.
                let times = match fates.next().unwrap_or(9) {
                    0 if losses + 1 < TRIES => 0,
                    1 => 2,
                    _ => 1,
                };
                losses += u32::from(times == 0);
                for _ in 0..times {
                    let mut progress = Progress::default();
                    let (end, sink) =
                        if towards_bmc { (&mut bmc, &mut at_bmc) } else { (&mut console, &mut at_console) };
                    end.received(now, &payload, &mut progress);
                    sink.extend(progress.data);
                    next.extend(progress.payloads.into_iter().map(|p| (!towards_bmc, p)));
                }
            }
            wires = next;
            if wires.is_empty() {
                now = Duration::from_secs(u64::from(round) + 1);
                for (towards_bmc, end) in [(true, &mut console), (false, &mut bmc)] {
                    let mut progress = Progress::default();
                    end.tick(now, &mut progress);
                    assert!(!progress.silent);
                    wires.extend(progress.payloads.into_iter().map(|p| (towards_bmc, p)));
                }
            }
        }
        (at_bmc, at_console)
    }

    #[test]
    fn a_break_goes_after_what_was_typed_before() {
        let mut console = Channel::new(10);
        let mut progress = Progress::default();
        assert_eq!(console.send(Duration::ZERO, b"ab", &mut progress), 2);
        console.send_break(Duration::ZERO, &mut progress);
        assert_eq!(progress.payloads, [vec![1, 0, 0, 0, b'a', b'b']]);
        let mut progress = Progress::default();
        console.received(Duration::ZERO, &[0, 1, 2, 0], &mut progress);
        assert_eq!(progress.payloads, [vec![2, 0, 0, BREAK]]);
    }

    #[test]
    fn what_was_not_accepted_is_sent_again_and_a_nack_waits() {
        let mut console = Channel::new(10);
        let mut progress = Progress::default();
        console.send(Duration::ZERO, b"abc", &mut progress);
        let mut nack = Progress::default();
        console.received(Duration::from_millis(500), &[0, 1, 0, NACK], &mut nack);
        assert!(nack.payloads.is_empty() && console.wake() == Some(Duration::from_millis(1500)));
        let mut half = Progress::default();
        console.received(Duration::from_millis(600), &[0, 1, 1, 0], &mut half);
        assert_eq!(half.payloads, [vec![2, 0, 0, 0, b'b', b'c']]);
    }

    #[test]
    fn a_line_on_which_nobody_answers_is_said_to_be_silent() {
        let mut console = Channel::new(10);
        let mut progress = Progress::default();
        console.send(Duration::ZERO, b"x", &mut progress);
        for second in 1..=u64::from(TRIES) {
            assert!(!progress.silent);
            console.tick(Duration::from_secs(second), &mut progress);
        }
        assert!(progress.silent);
        assert_eq!(progress.payloads.len(), TRIES as usize);
        assert_eq!(console.send(Duration::ZERO, &vec![0; MAX_QUEUED_BYTES + 9], &mut progress), MAX_QUEUED_BYTES);
    }

    proptest! {
        #[test]
        fn every_byte_arrives_once_and_in_order(
            a in proptest::collection::vec(any::<u8>(), 0..400),
            b in proptest::collection::vec(any::<u8>(), 0..400),
            fates in proptest::collection::vec(0u8..6, 1..80),
        ) {
            let (at_bmc, at_console) = talk(&a, &b, &fates);
            prop_assert_eq!(at_bmc, a);
            prop_assert_eq!(at_console, b);
        }

        #[test]
        fn any_payload_is_taken(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut console = Channel::new(10);
            let mut progress = Progress::default();
            console.send(Duration::ZERO, b"hello", &mut progress);
            console.received(Duration::ZERO, &bytes, &mut progress);
            let _ = read_activated(&bytes);
        }
    }
}
