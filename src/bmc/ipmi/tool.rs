//! `ipmitool` as the declared way out where a BMC does not get through the handshake in process: its command line for one
//! of our commands (`raw`), and what its answers mean. Pure. The password is never an argument.

use super::{Suite, completion::Completion, fault::Fault, message::Command, message::function};

pub const PROGRAM: &str = "ipmitool";
/// Where `-E` reads the password.
pub const PASSWORD_VARIABLE: &str = "IPMI_PASSWORD";

/// Whether this failure of a log-in is one that another implementation may not have. Never one about the password.
pub fn may_help(fault: &Fault) -> bool {
    match fault {
        Fault::OtherAlgorithms | Fault::Short(_) | Fault::Senseless(_) | Fault::Packet(_) => true,
        Fault::Refused { status, .. } => !status.is_busy(),
        // A BMC that answered before, and then no more.
        Fault::NoAnswer { stage, .. } => *stage != super::handshake::NAME_ASKING,
        _ => false,
    }
}

/// The arguments for one command. `Err`: it carries a secret, and arguments are seen by all users of this host.
/// `loud`: with the reasons of a failed log-in, among other things on standard output.
pub fn arguments(host: &str, user: &str, suite: Suite, command: &Command, loud: bool) -> Result<Vec<String>, Fault> {
    if (command.function, command.number) == (function::APP, 0x47) && command.data.len() > 2 {
        let why = "a password would stand in the arguments of ipmitool, which drives this BMC";
        return Err(Fault::Local(why.into()));
    }
    // `ADDRESS:PORT`, an IPv6 address in brackets.
    let (address, port) = host.rsplit_once(':').unwrap_or((host, "623"));
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let suite = suite.number().to_string();
    let fixed = ["-I", "lanplus", "-H", address, "-p", port, "-U", user, "-E", "-C", &suite, "-R", "1"];
    let mut all: Vec<String> = fixed.map(str::to_owned).into();
    all.extend(loud.then(|| "-v".to_owned()));
    all.push("raw".to_owned());
    let bytes = [command.function, command.number].into_iter().chain(command.data.iter().copied());
    all.extend(bytes.map(|byte| format!("0x{byte:02x}")));
    Ok(all)
}

/// What a run of it says: bytes, a completion code, or that the log-in failed.
pub fn read(success: bool, out: &str, err: &str) -> Result<Vec<u8>, Fault> {
    if success {
        let bytes: Result<Vec<u8>, _> = out.split_whitespace().map(|word| u8::from_str_radix(word, 16)).collect();
        return bytes.map_err(|_| Fault::Senseless("ipmitool printed something other than bytes".into()));
    }
    if let Some(code) = err.split_once("rsp=0x").and_then(|(_, rest)| rest.get(..2)) {
        let code = u8::from_str_radix(code, 16).map_err(|_| Fault::Senseless("ipmitool printed no code".into()))?;
        return Err(Fault::Completed(Completion(code)));
    }
    Err(log_in(err))
}

/// What a failed log-in says of its reason; much only when it was asked [loudly](arguments).
pub fn log_in(err: &str) -> Fault {
    let lower = err.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let said = crate::bmc::redfish::json::clean(err);
    if has(&["hmac is invalid", "unauthorized name", "unauthorized guid", "invalid integrity check"]) {
        return Fault::WrongPassword;
    }
    let algorithms = ["authentication algorithm", "integrity algorithm", "confidentiality algorithm", "cipher suite"];
    if has(&algorithms) { Fault::NoSuite(said) } else { Fault::NoWay(format!("ipmitool: {said}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bmc::ipmi::{chassis::Control, handshake, options, status::Status, user},
        model::Secret,
    };

    #[test]
    fn arguments_are_the_command_and_never_the_password() {
        let shown =
            |command| arguments("10.0.0.11:623", "root", Suite::Seventeen, &command, false).map(|all| all.join(" "));
        assert_eq!(
            shown(Control::Up.command()).unwrap(),
            "-I lanplus -H 10.0.0.11 -p 623 -U root -E -C 17 -R 1 raw 0x00 0x02 0x01"
        );
        let flags = options::set_flags(options::Flags([0xE0, 4, 0, 0, 0]));
        assert!(shown(flags).unwrap().ends_with("raw 0x00 0x08 0x05 0xe0 0x04 0x00 0x00 0x00"));
        let six = arguments("[fd00::1]:6230", "root", Suite::Three, &options::get_flags(), true).unwrap();
        assert_eq!(
            (six[3].as_str(), six[5].as_str(), six[10].as_str(), six[13].as_str()),
            ("fd00::1", "6230", "3", "-v")
        );
        assert!(shown(user::set_password(2, &Secret::new("hunter2".into())).unwrap()).is_err());
        assert!(shown(user::enable(2, true)).is_ok());
    }

    #[test]
    fn answers_and_refusals() {
        assert_eq!(read(true, " 61 10\n 40 54\n", ""), Ok(vec![0x61, 0x10, 0x40, 0x54]));
        assert_eq!(read(true, "", ""), Ok(vec![]));
        assert!(matches!(read(true, "Chassis Power is on", ""), Err(Fault::Senseless(_))));
        let refused = "Unable to send RAW command (channel=0x0 netfn=0x0 lun=0x0 cmd=0x9 rsp=0xcc): Invalid data field";
        assert_eq!(read(false, "", refused), Err(Fault::Completed(Completion::INVALID_FIELD)));
        let wrong = "> RAKP 2 HMAC is invalid\nError: Unable to establish IPMI v2 / RMCP+ session\n";
        assert_eq!(read(false, "", wrong), Err(Fault::WrongPassword));
        let suite = "Error in open session response message : invalid authentication algorithm\n";
        assert!(matches!(log_in(suite), Fault::NoSuite(_)));
        assert!(matches!(read(false, "", "Error: Unable to establish IPMI v2 / RMCP+ session"), Err(Fault::NoWay(_))));
    }

    #[test]
    fn it_is_tried_for_oddities_and_never_for_passwords() {
        let silent = |stage| Fault::NoAnswer { stage, tries: 4, seconds: 10 };
        assert!(may_help(&Fault::OtherAlgorithms) && may_help(&silent("RAKP 1")));
        assert!(may_help(&Fault::Refused { stage: "RAKP 1", status: Status::INVALID_SESSION }));
        for fault in [
            Fault::WrongPassword,
            Fault::LoginRefused(Status::UNAUTHORIZED_NAME),
            Fault::PasswordTooLong,
            Fault::OtherBmcKey,
            Fault::NotIpmi2,
            Fault::NoSuite(String::new()),
            Fault::NoWay(String::new()),
            silent(handshake::NAME_ASKING),
            Fault::Refused { stage: "RAKP 1", status: Status::NO_RESOURCES },
        ] {
            assert!(!may_help(&fault), "{fault}");
        }
    }
}
