//! Faults put in by hand: each breaks a guard, a fence, an order or a limit, and a test must notice it.

/// One change of one file.
pub struct Mutant {
    pub name: &'static str,
    /// Below the repository.
    pub file: &'static str,
    /// Stands in the file exactly once.
    pub find: &'static str,
    pub replace: &'static str,
    /// The invariant that it breaks (docs/RELIABILITY.md).
    pub breaks: &'static str,
    /// Arguments of `cargo nextest run`: the tests that must notice.
    pub tests: &'static [&'static str],
}

const QUORUM: &[&str] = &["--lib", "-E", "test(plan::quorum::)"];
const WIPE: &[&str] = &["--lib", "-E", "test(plan::wipe_guard::) or test(run::desk::)"];
const APPROVAL: &[&str] = &["--lib", "-E", "test(plan::approval::)"];
const DESK: &[&str] = &["--lib", "-E", "test(run::desk::)"];
const KEYS: &[&str] = &["--lib", "-E", "test(run::keys::)"];
const DHCP: &[&str] = &["--test", "netboot_decide"];
const IDENTITY: &[&str] = &["--lib", "-E", "test(bmc::identity::)"];
const SECRETS: &[&str] = &["--lib", "-E", "test(secrets::)"];
const STORE: &[&str] = &["--test", "store_conformance", "-E", "test(sqlite_conforms)"];
const LEASE: &[&str] = &["--lib", "-E", "test(model::lease::)"];
const CLI: &[&str] = &["--lib", "-E", "test(cli::apply::)"];
const ENGINE: &[&str] = &["--lib", "-E", "test(engine::)"];

macro_rules! mutant {
    ($name:literal, $file:literal, $find:expr => $replace:expr, $breaks:literal, $tests:expr) => {
        Mutant { name: $name, file: $file, find: $find, replace: $replace, breaks: $breaks, tests: $tests }
    };
}

pub const MUTANTS: &[Mutant] = &[
    mutant!("half-is-a-majority", "src/plan/quorum.rs", "    voters / 2 + 1\n" => "    voters.div_ceil(2)\n", "I4", QUORUM),
    mutant!("quorum-as-it-stands-is-not-asked", "src/plan/quorum.rs", "    if healthy < majority(all) {" => "    if healthy + 9 < majority(all) {", "I4", QUORUM),
    mutant!("no-settle-time", "src/plan/quorum.rs", ".filter(|left| !left.is_zero())" => ".filter(Duration::is_zero)", "I4", QUORUM),
    mutant!("alarms-are-passed-over", "src/plan/quorum.rs", "    out.extend(world.facts.alarms.iter().cloned().map(Refusal::Alarm));\n" => "", "I4", QUORUM),
    mutant!("a-dead-learner-votes", "src/plan/quorum.rs", "    if world.dead.contains(&member.id) {\n" => "    if world.dead.contains(\"\") {\n", "I4", QUORUM),
    mutant!("ill-counts-as-dead", "src/plan/quorum.rs", "world.declared == 2 || world.dead.contains(&member.id)" => "world.declared == 2 || !member.healthy", "I4", QUORUM),
    mutant!("who-stops-still-counts", "src/plan/quorum.rs", "is_healthy(world, m) && !stops(&m.id)" => "is_healthy(world, m)", "I4", QUORUM),
    mutant!("the-leader-may-be-stopped", "src/plan/quorum.rs", "all > 1 && stops(id)" => "all > 9 && stops(id)", "I4", QUORUM),
    mutant!("a-learner-not-in-sync-votes", "src/plan/quorum.rs", "    } else if !world.synced.contains(&member.id) {" => "    } else if !world.synced.contains(&member.id) && world.synced.len() > 9 {", "I4", QUORUM),
    mutant!("added-beside-an-ill-voter", "src/plan/quorum.rs", "voters(world).filter(|m| !is_healthy(world, m));" => "voters(world).filter(|m| !is_healthy(world, m) && m.healthy);", "I4", &["--test", "quorum_reference"]),
    mutant!("the-mac-is-not-compared", "src/plan/wipe_guard.rs", "    if !claim.mac.eq_ignore_ascii_case(&mac) {" => "    if claim.mac.is_empty() {", "I5", WIPE),
    mutant!("one-identity-is-enough", "src/plan/wipe_guard.rs", "    if agreeing == 0 {" => "    if agreeing > 9 {", "I5", WIPE),
    mutant!("the-first-of-two-disks", "src/plan/wipe_guard.rs", "        [one] => *one,\n" => "        [one, ..] => *one,\n", "I5", WIPE),
    mutant!("any-partition-table-is-ours", "src/plan/wipe_guard.rs", "disk.content.is_blank() || disk.content.disk_guid == Some(guid)" => "disk.content.is_blank() || (disk.content.disk_guid.is_some() && guid != Uuid::nil())", "I5", WIPE),
    mutant!("any-record-allows-the-wipe", "src/plan/wipe_guard.rs", "        && disk.content.disk_guid == Some(record.disk_guid)\n" => "", "I5", WIPE),
    mutant!("an-installed-disk-is-written-unasked", "src/plan/wipe_guard.rs", "        && (reinstall || record.phase == InstallPhase::Installing)\n" => "", "I5", WIPE),
    mutant!("a-larger-disk-will-do", "src/plan/wipe_guard.rs", "rule.max_size_bytes.is_none_or(|max| disk.size_bytes <= max)" => "rule.max_size_bytes.is_none_or(|max| disk.size_bytes <= max || max > 0)", "I5", WIPE),
    mutant!("a-smaller-disk-will-do", "src/plan/wipe_guard.rs", "rule.min_size_bytes.is_none_or(|min| disk.size_bytes >= min)" => "rule.min_size_bytes.is_none_or(|min| disk.size_bytes >= min || min > 0)", "I5", WIPE),
    mutant!("all-runs-leave-the-same-mark", "src/plan/wipe_guard.rs", "format!(\"{run}\\n{node}\\n{}\"" => "format!(\"{}\\n{node}\\n{}\", run.len()", "I11", WIPE),
    mutant!("approvals-do-not-end", "src/plan/approval.rs", "    if unix_ms >= *expires_ms {" => "    if unix_ms > *expires_ms + 1 {", "I5", APPROVAL),
    mutant!("an-approval-is-for-any-disk", "src/plan/approval.rs", "    if disk != wish.disk {" => "    if disk.is_empty() {", "I5", APPROVAL),
    mutant!("an-approval-is-for-any-system", "src/plan/approval.rs", "    if artifact != wish.artifact {" => "    if artifact.is_empty() {", "I12", APPROVAL),
    mutant!("any-token-claims", "src/run/desk.rs", "        if !same(&keys.token(&run, &claim.node, attempt), &claim.token) {" => "        if claim.token.is_empty() || attempt == 0 {", "I5", DESK),
    mutant!("tokens-do-not-end", "src/run/desk.rs", "        if now > until {" => "        if now > until + until {", "I5", DESK),
    mutant!("another-key-claims-again", "src/run/desk.rs", "earlier.attempt == claim.attempt && earlier.installer_host_key == claim.installer_host_key" => "earlier.attempt == claim.attempt", "I17", DESK),
    mutant!("a-withdrawn-boot-still-claims", "src/run/desk.rs", "        self.seat(node).offered = None;" => "        let _ = self.seat(node);", "I9", DESK),
    mutant!("reports-need-no-session", "src/run/desk.rs", "!same(&keys.session(&run, &report.node, &claim.attempt), bearer) || claim.boot_id" => "(keys.session(&run, &report.node, &claim.attempt).is_empty() && bearer.is_empty()) || claim.boot_id", "I17", DESK),
    mutant!("a-failed-installer-writes-on", "src/run/desk.rs", "Some(Order::Write(ticket)) if !failed =>" => "Some(Order::Write(ticket)) if !failed || failed =>", "I5", DESK),
    mutant!("one-token-for-all-attempts", "src/run/keys.rs", "&[run, node, &attempt.to_string()]" => "&[run, node, &(attempt * 0).to_string()]", "I9", KEYS),
    mutant!("parts-run-into-each-other", "src/run/keys.rs", "            context.update(&(part.len() as u64).to_be_bytes());\n" => "", "I17", KEYS),
    mutant!("keys-are-for-everybody", "src/run/keys.rs", ".mode(0o600).open(&next)" => ".mode(0o644).open(&next)", "I10", KEYS),
    mutant!("prefixes-are-equal", "src/run/keys.rs", "    a.len() == b.len() && a.bytes()" => "    a.bytes()", "I17", KEYS),
    mutant!("another-uuid-is-served", "src/netboot/dhcp/mod.rs", "        Some(uuid) if request.contradicts(uuid) => {" => "        Some(uuid) if request.contradicts(uuid) && uuid.is_nil() => {", "I5", DHCP),
    mutant!("any-relay-is-answered", "src/netboot/dhcp/mod.rs", "    } else if !subnet.relays.contains(&giaddr) {" => "    } else if !subnet.relays.contains(&giaddr) && subnet.relays.is_empty() {", "I5", DHCP),
    mutant!("clients-of-other-servers-are-answered", "src/netboot/dhcp/mod.rs", "request.server.is_some_and(|server| server != ours)" => "request.server.is_some_and(|server| server != ours && server.is_loopback())", "I8", DHCP),
    mutant!("a-wrong-address-is-acknowledged", "src/netboot/dhcp/mod.rs", "Some(wanted) if wanted == machine.address =>" => "Some(wanted) if wanted == machine.address || !wanted.is_loopback() =>", "I5", DHCP),
    mutant!("an-unseen-serial-agrees", "src/bmc/identity.rs", "if same(&seen) || same(&tag) {" => "if seen.is_none() || same(&seen) || same(&tag) {", "I5", IDENTITY),
    mutant!("any-uuid-agrees", "src/bmc/identity.rs", "        if seen == Some(uuid) {" => "        if seen.is_some() {", "I5", IDENTITY),
    mutant!("a-group-may-read-the-password", "src/secrets/load.rs", "    if mode & 0o077 != 0 {" => "    if mode & 0o007 != 0 {", "I10", SECRETS),
    mutant!("a-loaded-password-is-not-blotted-out", "src/secrets/load.rs", "    remember(&secret);\n    Ok(secret)" => "    Ok(secret)", "I10", SECRETS),
    mutant!("hex-forms-stay-readable", "src/secrets/redact.rs", "        forms.insert(hex::encode(text));\n" => "", "I10", SECRETS),
    mutant!("any-fence-is-in-force", "src/store/sqlite/locks.rs", "            Some(lock) if lock.fence == *number => Ok(lock)," => "            Some(lock) if lock.fence >= *number => Ok(lock),", "I1", STORE),
    mutant!("a-living-holder-loses-its-lock", "src/store/lock.rs", "Some(lock) if lock.holder != *self.holder && alive => {" => "Some(lock) if lock.holder != *self.holder && !alive => {", "I2", STORE),
    mutant!("a-living-lease-is-stolen", "src/store/lock.rs", "                if lock.expired { Ok(()) }" => "                if lock.expired || !force { Ok(()) }", "I2", STORE),
    mutant!("a-cluster-is-made-twice", "src/store/sqlite/mod.rs", "            if now != expected {" => "            if now > expected + 9 {", "I6", STORE),
    mutant!("fences-are-given-twice", "src/store/sqlite/locks.rs", "        let fence = given.get(name).unwrap_or(&0) + 1;" => "        let fence = given.get(name).unwrap_or(&0).min(&0) + 1;", "I2", STORE),
    mutant!("records-need-not-follow", "src/store/chain.rs", "        if record.seq != self.seq + 1 {" => "        if record.seq < self.seq {", "I13", STORE),
    mutant!("effects-leave-to-the-end-of-the-lease", "src/model/lease.rs", "begun_ms + ttl_ms.saturating_sub(longest)" => "begun_ms + ttl_ms.saturating_sub(longest / 9)", "I2", LEASE),
    mutant!("one-wipe-more", "src/cli/apply.rs", "Some(max) if wipes > max as usize =>" => "Some(max) if wipes > max as usize + 1 =>", "I12", CLI),
    mutant!("a-refused-password-is-tried-again", "src/engine/retry.rs", "&[Cause::Unreachable, Cause::Deadline, Cause::Busy];" => "&[Cause::Unreachable, Cause::Deadline, Cause::Busy, Cause::Unauthorized];", "I18", ENGINE),
    mutant!("a-wipe-is-begun-blindly", "src/engine/step.rs", "Found::Unknown(failure) if class == Class::Destroy && resumed =>" => "Found::Unknown(failure) if class == Class::Destroy && !resumed =>", "I11", ENGINE),
    mutant!("who-is-down-does-not-count", "src/engine/budget.rs", "self.down.union(&self.taken).cloned().collect();" => "self.taken.clone();", "I3", ENGINE),
    mutant!("one-more-than-the-budget", "src/engine/budget.rs", "self.groups[**g].missing + 1 > self.groups[**g].limit" => "self.groups[**g].missing > self.groups[**g].limit", "I3", ENGINE),
    mutant!("an-older-look-lets-a-machine-go", "src/engine/leave.rs", ".filter(|(_, w)| w.since_ms <= began)" => ".filter(|(_, w)| w.since_ms <= now.mono_ms)", "I3", ENGINE),
    mutant!("what-is-not-left-safe-is-not-told", "src/engine/settle.rs", ".chain(self.finalizers.left())" => ".chain(self.finalizers.left().take(0))", "I9", ENGINE),
    mutant!("no-cause-is-shared", "src/engine/admission.rs", "pub const SHARED_CAUSE: usize = 3;" => "pub const SHARED_CAUSE: usize = 300;", "I14", ENGINE),
];
