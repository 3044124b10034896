//! The message inside: addresses, function, command, checksums (IPMI 2.0, 13.8), and commands as values.

use zeroize::Zeroize;

use super::{
    bytes::{Reader, checksum},
    rmcp::PacketFault,
};

/// Addresses of the BMC and of a console outside of IPMB.
pub const BMC: u8 = 0x20;
pub const CONSOLE: u8 = 0x81;

/// Network functions of requests (table 5-1); their answers have one more.
pub mod function {
    pub const CHASSIS: u8 = 0x00;
    pub const SENSOR: u8 = 0x04;
    pub const APP: u8 = 0x06;
    pub const STORAGE: u8 = 0x0A;
    pub const TRANSPORT: u8 = 0x0C;
}

/// What sending it twice would do, and who has to be asked before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Changes nothing: sent again after silence, allowed in read-only runs.
    Reads,
    /// Changes something, the same however often it arrives.
    Sets,
    /// Happens each time that it arrives: sent once, and its lost answer is unknown.
    Acts,
}

/// One command, ready to be sent. Its data may be a password: never printed, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    pub function: u8,
    pub number: u8,
    pub data: Vec<u8>,
    pub effect: Effect,
    /// For messages and the request log: `chassis status`.
    pub name: &'static str,
}

impl Command {
    pub fn new(function: u8, number: u8, name: &'static str, effect: Effect, data: impl Into<Vec<u8>>) -> Command {
        Command { function, number, data: data.into(), effect, name }
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        self.data.zeroize();
    }
}

/// A request or an answer as it stands in a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub to: u8,
    pub function: u8,
    pub from: u8,
    /// 0 to 63: tells which request an answer is of.
    pub sequence: u8,
    pub command: u8,
    /// Of an answer: the completion code first.
    pub data: Vec<u8>,
}

impl Message {
    pub fn request(command: &Command, sequence: u8) -> Message {
        Message {
            to: BMC,
            function: command.function,
            from: CONSOLE,
            sequence,
            command: command.number,
            data: command.data.clone(),
        }
    }
    /// The answer to this request.
    pub fn answer(&self, completion: u8, data: &[u8]) -> Message {
        let mut all = vec![completion];
        all.extend(data);
        Message {
            to: self.from,
            function: self.function | 1,
            from: self.to,
            sequence: self.sequence,
            command: self.command,
            data: all,
        }
    }
    pub fn encode(&self) -> Vec<u8> {
        let head = [self.to, self.function << 2];
        let mut tail = vec![self.from, self.sequence << 2, self.command];
        tail.extend(&self.data);
        let mut bytes = vec![head[0], head[1], checksum(&head)];
        let sum = checksum(&tail);
        bytes.append(&mut tail);
        bytes.push(sum);
        bytes
    }
    pub fn decode(bytes: &[u8]) -> Result<Message, PacketFault> {
        let mut reader = Reader::new(bytes);
        let [to, function, sum] = reader.array("header of the message")?;
        let (last, body) = reader.rest().split_last().ok_or(super::bytes::Short("checksum"))?;
        if checksum(&[to, function]) != sum || checksum(body) != *last {
            return Err(PacketFault::Checksum);
        }
        let mut reader = Reader::new(body);
        let [from, sequence, command] = reader.array("header of the message")?;
        let data = reader.rest().to_vec();
        Ok(Message { to, function: function >> 2, from, sequence: sequence >> 2, command, data })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn get_channel_authentication_capabilities_as_everybody_sends_it() {
        let command = Command::new(function::APP, 0x38, "x", Effect::Reads, [0x8E, 0x04]);
        assert_eq!(hex::encode(Message::request(&command, 0).encode()), "2018c88100388e04b5");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_a_fault(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Message::decode(&bytes);
        }

        #[test]
        fn what_is_written_is_read(
            to: u8, from: u8, function in 0u8..64, sequence in 0u8..64, command: u8,
            data in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let message = Message { to, function, from, sequence, command, data };
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }
}
