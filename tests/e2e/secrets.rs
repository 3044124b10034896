//! Canaries: every secret of a laboratory and its runs, looked for wherever rackctl writes.

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::{
    Bench,
    eyes::{Process, Seen},
};

/// A secret's name and the byte strings by which it would be known.
pub struct Canary {
    pub name: String,
    forms: Vec<Vec<u8>>,
}

impl Canary {
    fn text(name: impl Into<String>, secret: &str) -> Canary {
        let secret = secret.trim();
        assert!(secret.len() >= 12, "too short to be looked for");
        let hex = hex::encode(secret);
        // Without its padding, so that it is found inside of a longer text that begins with it too.
        let base64 = BASE64.encode(secret);
        let whole = base64.trim_end_matches('=');
        let forms = vec![
            secret.into(),
            hex.to_uppercase().into(),
            hex.into(),
            whole[..whole.len() - 1].into(),
            BASE64.encode(format!("admin:{secret}")).into(),
        ];
        Canary { name: name.into(), forms }
    }
    fn bytes(name: impl Into<String>, secret: &[u8]) -> Canary {
        let base64 = BASE64.encode(secret);
        let forms = vec![secret.into(), hex::encode(secret).into(), base64.trim_end_matches('=').into()];
        Canary { name: name.into(), forms }
    }
    /// Each line of a PEM body is looked for alone: a wrapped or cut copy is a copy.
    fn pem(name: &str, path: &Path) -> Canary {
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with("-----") && l.len() >= 32).collect();
        // The first line of an OpenSSH key is its fixed header and its public half.
        let skip = usize::from(text.contains("OPENSSH PRIVATE KEY")) * 2;
        let forms: Vec<Vec<u8>> = lines[skip.min(lines.len() - 1)..].iter().map(|l| l.as_bytes().to_vec()).collect();
        assert!(!forms.is_empty(), "{name} has no line to look for");
        Canary { name: name.into(), forms }
    }
    /// The secret itself, to plant it.
    pub fn form(&self) -> &[u8] {
        &self.forms[0]
    }
    fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| contains(bytes, form))
    }
}

/// memmem(3): two hundred forms in some megabytes, unoptimised.
fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    // Safety: both are live slices, given with their lengths.
    !unsafe { libc::memmem(haystack.as_ptr().cast(), haystack.len(), needle.as_ptr().cast(), needle.len()) }.is_null()
}

impl Bench {
    /// Everything that must be nowhere. After a run: its tokens and bearers are among them.
    pub fn canaries(&self) -> Vec<Canary> {
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let keys = self.fleet_folder().join("keys");
        let mut all = vec![
            Canary::text("BMC password", &read(&self.layout.password())),
            Canary::bytes("run.key", &fs::read(keys.join("run.key")).unwrap()),
            Canary::pem("key of the provisioning API", &keys.join("api.key")),
            Canary::pem("operator's SSH key", &self.layout.identity()),
        ];
        let derive = self.keys();
        for run in self.runs() {
            for node in self.lab().machines {
                for attempt in 1..=4 {
                    let token = derive.token(&run.id, &node.name, attempt);
                    all.push(Canary::text(format!("token of {} attempt {attempt}", node.name), &token));
                }
            }
            for record in self.journal(&run.id) {
                if let Some(claim) = record.body.pointer("/claim/attempt").and_then(|a| a.as_str()) {
                    let bearer = derive.session(&run.id, &record.subject, claim);
                    all.push(Canary::text(format!("report bearer of {}", record.subject), &bearer));
                }
            }
        }
        all
    }

    /// Where a secret was found: the store's files, everything printed, argument lists and environments.
    pub fn leaks(&self, canaries: &[Canary], processes: &[BTreeMap<Process, Seen>]) -> Vec<String> {
        let mut places: Vec<(String, Vec<u8>)> = Vec::new();
        for folder in [self.fleet_folder(), self.fleet_folder().join("scratch"), self.root.join("said")] {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            for path in entries.map(|e| e.unwrap().path()).filter(|p| p.is_file()) {
                places.push((path.display().to_string(), fs::read(&path).unwrap()));
            }
        }
        assert!(
            places.iter().any(|(name, bytes)| name.ends_with("state.db") && !bytes.is_empty()),
            "no journal was read"
        );
        places.push(("the supervisor's log".into(), fs::read(self.layout.log()).unwrap()));
        for (process, seen) in processes.iter().flatten() {
            for said in &seen.said {
                places.push((format!("arguments or environment of {} {}", process.pid, seen.name), said.clone()));
            }
        }
        let mut leaks = Vec::new();
        for (place, bytes) in &places {
            leaks.extend(canaries.iter().filter(|c| c.is_in(bytes)).map(|c| format!("{} in {place}", c.name)));
        }
        leaks
    }
}
