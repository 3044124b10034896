//! The one table of faults: name, value, what it does, and who was seen to do so.

use super::Takes::{self, Count, Flag, Rate, Text, Time, Word, Words};

macro_rules! faults {
    ($($variant:ident $name:literal $takes:expr, $does:literal, $source:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $(#[doc = $does] $variant,)*
        }

        impl Fault {
            pub const ALL: &[Fault] = &[$(Fault::$variant,)*];

            /// As it is written on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$variant => $name,)* }
            }
            pub fn takes(self) -> Takes {
                match self { $(Fault::$variant => $takes,)* }
            }
            /// One line.
            pub fn does(self) -> &'static str {
                match self { $(Fault::$variant => $does,)* }
            }
            /// Who does so, and where that is written.
            pub fn source(self) -> &'static str {
                match self { $(Fault::$variant => $source,)* }
            }
        }
    };
}

faults! {
    // Sessions and accounts
    NoSessions "no-sessions" Flag, "there is no session service: Basic auth alone", "sushy-tools";
    SessionCap "session-cap" Count(1000), "so many sessions; a further log-in is answered 503 RAC0218", "iDRAC: check_redfish#89, badfish#447";
    SessionTimeout "session-timeout" Time, "a session that is not used ends after this", "HPE, AMI 30 s, XCC, Supermicro 300 s: recorded trees";
    SessionDrop "session-drop" Count(100_000), "a session is forgotten after so many requests: 401 on a valid token", "iDRAC8: check_redfish#90";
    SessionDelete401 "session-delete-401" Flag, "a log-out ends the session and is answered 401", "iDRAC9 7.00: check_redfish#119";
    SessionNoLocation "session-no-location" Flag, "the answer to a log-in names no Location", "sushy: session_creation_headers_no_location";
    AccountLockout "account-lockout" Rate, "after so many wrong passwords every log-in is 401 for so long", "Supermicro X13 3/30s, BlueField-3 10/600s: recorded trees";
    LockoutForbidden "lockout-403" Flag, "a locked account is answered 403", "DSP0266, AccountService";
    LogInDelay "log-in-delay" Time, "a wrong password is answered after this from the second on", "iLO5: HPE's user guide";
    PasswordExpired "password-expired" Flag, "everything but the account itself is 403 PasswordChangeRequired", "DSP0266, password management";
    PasswordMax "password-max" Count(127), "a longer password is refused", "OpenBMC 20, AMI 25, Cray 12: recorded trees";
    // ETags
    IfMatchRequired "if-match-required" Word(&["standard", "ami"]), "a PATCH without If-Match is answered 428", "AMI, Huawei: gofish#171, ansible#60031";
    IfMatchRefused "if-match-refused" Flag, "a PATCH with If-Match is answered 412", "OpenBMC: bmclib providers/openbmc";
    EtagMissing "etag-missing" Flag, "there is no ETag at all", "Gigabyte: ansible _redfish_utils";
    EtagBodyOnly "etag-body-only" Flag, "the ETag stands in the body alone", "Gigabyte: ansible PR#6434";
    EtagWeak "etag-weak" Flag, "the ETag is weak (W/) and such a one is refused in If-Match", "gofish PR#511";
    EtagGzip "etag-gzip" Flag, "the ETag ends with -gzip and such a one is refused in If-Match", "gofish PR#511";
    EtagUnquoted "etag-unquoted" Flag, "If-Match wants the ETag without its quotes", "ansible strip_etag_quotes";
    // Boot
    BootSettings "boot-settings" Word(&["SD", "Settings", "Pending"]), "Boot is changed on a settings resource; the system answers OperationSupportedInFutureStateURI", "AMI, ASRock: Redfish-Tacklebox#111";
    IgnoreBootOverride "ignore-boot-override" Word(&["all", "redfish", "override"]), "what sets a boot is answered well and not applied: Redfish and IPMI, Redfish alone, or its override alone", "metal-operator#80";
    BootOnceLasts "boot-once-lasts" Flag, "Once is kept as Continuous", "sushy-tools";
    BootNotHonoured "boot-not-honoured" Flag, "the override is shown, and the machine boots as ever", "iDRAC9: metal-operator#80";
    BootSticky "boot-sticky" Flag, "Once is never consumed", "sushy-tools with libvirt";
    BootLostAtReset "boot-lost-at-reset" Flag, "a reset of the BMC clears the override", "bmclib PR#459";
    BootModeReverts "boot-mode-reverts" Flag, "a PATCH without a mode makes the mode Legacy", "Supermicro: Redfishtool PR#106";
    BootDisabledAfter200 "boot-disabled-after-200" Flag, "200, then Mode is Legacy and Enabled is Disabled", "Supermicro AS-1015CS: bmclib PR#459";
    Boot400Applied "boot-400-applied" Flag, "400 although the change was applied", "Dell 13G: community.general#5091";
    BootModeReadOnly "boot-mode-read-only" Flag, "a PATCH with a mode is 400", "HPE DL160 G10: community.general#3509";
    BootNoMode "boot-no-mode" Flag, "there is no property for the mode", "Supermicro X10, GB200: metal-operator#982";
    BootEnabledRequired "boot-enabled-required" Flag, "a PATCH without Enabled is 400", "Supermicro: ironic story 2008547";
    BootEnabledUnchanged "boot-enabled-unchanged-400" Flag, "a PATCH that leaves Enabled as it was is 400", "ironic story 2007355";
    BootFullSet "boot-full-set-required" Flag, "mode, enabled and target must come together", "AMI, ASRockRack: ironic management.py";
    BootNoContinuous "boot-no-continuous" Flag, "Once and Disabled alone", "XCC: bmclib providers/lenovo";
    BootTargets "boot-targets" Words, "these targets alone", "XCC, GB200 without UefiHttp: recorded trees";
    BootPxeIsNext "boot-pxe-is-next" Flag, "Pxe is read back as UefiBootNext", "Supermicro: libredfish supermicro.rs";
    BootNoOverride "boot-no-override" Flag, "there is no override at all, only BootOrder", "Cray EX: recorded trees";
    BootUriReadOnly "boot-uri-read-only" Flag, "HttpBootUri cannot be written", "iLO6: libredfish PR#76";
    BootUriMissing "boot-uri-missing" Flag, "there is no HttpBootUri", "Dell: libredfish PR#75";
    BootOrderRefused "boot-order-refused" Flag, "BootOrder cannot be written", "Supermicro: libredfish supermicro.rs";
    BootOwnOrder "boot-own-order" Word(&["supermicro", "lenovo"]), "there is no BootOrder, but a vendor's own: FixedBootOrder, or BootSettings", "libredfish supermicro.rs, lenovo.rs";
    BootOptionNull "boot-option-null" Flag, "BootOptionEnabled and UefiDevicePath are null", "HPE, Supermicro: recorded trees";
    // Power
    PowerNoop "power-noop" Flag, "a reset is answered 204 and nothing happens", "seen when a BMC lost its CPLD: ironic";
    PowerLag "power-lag" Time, "from a reset to its effect", "1 to 11 s: sushy-tools; up to 60 s on real ones";
    PowerOffTime "power-off-time" Time, "how long a power cycle leaves the machine off", "every BMC";
    PowerStuck "power-stuck" Flag, "a transition is carried out and never ends in what is shown", "ironic: PowerState after reboot";
    PowerOnConflict "power-on-conflict" Time, "On is 409 for so long after the machine went off", "iDRAC10: ironic redfish/power.py";
    PowerOnTwice "power-on-twice-409" Flag, "On of a machine that is on is 409", "sushy connector.py";
    PowerNull "power-null" Flag, "PowerState is null", "sushy resources/system";
    PowerUnknown "power-unknown" Flag, "PowerState is a word that no schema has", "DSP0266, tolerance of clients";
    ShutdownIgnored "shutdown-ignored" Flag, "GracefulShutdown is answered 204 and the system does not listen", "every system without ACPI daemon";
    LoseResetAnswer "lose-reset-answer" Flag, "a reset is carried out and the connection breaks before the answer", "every network";
    ResetTypes "reset-types" Words, "these ResetTypes alone", "AMI, HPE, Cray: recorded trees";
    ResetUnlisted "reset-unlisted" Flag, "no list of ResetTypes anywhere", "sushy bare minimum samples";
    ActionInfo "action-info" Flag, "ResetTypes on an ActionInfo resource alone", "Supermicro X13, AMI, OpenBMC: recorded trees";
    ResetBusy "reset-busy" Time, "a reset so soon after another is 400 InvalidOperationForSystemState", "iLO: sushy connector.py";
    PostLock "post-lock" Time, "changes are 400 UnableToModifyDuringSystemPOST for so long after power-on", "HPE: ironic management.py";
    SecondSystem "second-system" Flag, "a system without Reset stands first in the collection", "HGX_Baseboard_0 of NVIDIA: recorded trees";
    // HTTP
    Busy "busy" Count(100_000), "the next so many requests are 503 with Retry-After: 1", "DSP0266; every BMC under load";
    BusySilent "busy-silent" Count(100_000), "the next so many requests are 503 without Retry-After", "iDRAC under load";
    Forbidden "forbidden" Text, "what is below this path is 403", "libredfish, forbidden trees";
    Slow "slow" Time, "each answer comes after this", "0.05 to 23 s: measured on real BMCs";
    SlowBody "slow-body" Time, "a body comes in pieces over this time", "AMI under load";
    HostileBody "hostile-body" Word(&["oversized", "nested", "not-json", "truncated", "short-length", "long-length", "html"]), "Systems/1 is answered with such a body", "hostile: no vendor";
    Redirect "redirect" Text, "everything but the root is redirected (307) to this URL", "hostile: no vendor";
    MembersNull "members-null" Flag, "Members of collections below a system are null", "BlueField: nv-redfish bmc_quirks";
    PageSize "page-size" Count(1000), "collections come in pages of so many, with a nextLink", "DSP0266; logs of every BMC";
    ExpandRefused "expand-refused" Flag, "$expand is 501", "Supermicro, XCC: recorded trees";
    ExpandBare "expand-bare" Flag, "expanded members have neither Id nor Name", "AMI: nv-redfish bmc_quirks";
    GzipAlways "gzip-always" Flag, "bodies are gzip although identity was asked for", "iLO4, iLO5: ansible _redfish_utils";
    LinksSlash "links-slash" Flag, "links end with a slash", "HPE: recorded trees";
    LinksLowerCase "links-lower-case" Flag, "links below a system are in lower case", "HPE: recorded trees";
    LinksAway "links-away" Flag, "links of the root lead to another host", "hostile: no vendor";
    SystemId "system-id" Text, "the system's name in paths", "System.Embedded.1, Self, a serial: recorded trees";
    ManagerId "manager-id" Text, "the manager's name in paths", "iDRAC.Embedded.1, bmc, Self: recorded trees";
    ChassisId "chassis-id" Text, "the chassis' name in paths", "System.Embedded.1, Self: recorded trees";
    ErrorHtml "error-html" Flag, "errors are pages of HTML", "web servers in front of BMCs";
    ErrorBare "error-bare" Flag, "errors have no body", "OpenBMC, old";
    // Resources
    RootVendor "root-vendor" Text, "the root's Vendor", "AMI on boards of NVIDIA and Gigabyte: recorded trees";
    RootNoVendor "root-no-vendor" Flag, "the root has neither Vendor nor Product", "Supermicro: recorded trees";
    RootNoLinks "root-no-links" Flag, "the root has no links until the BMC is reset", "Viking: nv-redfish bmc_quirks";
    Maker "maker" Text, "the system's Manufacturer", "recorded trees";
    BmcModel "bmc-model" Text, "the manager's Model and FirmwareVersion, divided by a slash", "recorded trees";
    UuidEmpty "uuid-empty" Flag, "the system's UUID is an empty text", "AMI: nv-redfish bmc_quirks";
    UuidSwapped "uuid-swapped" Flag, "the first three fields of the UUID have their bytes swapped", "SMBIOS before 2.6";
    SerialPlaceholder "serial-placeholder" Flag, "the serial is `Default string`", "white boxes: inventory rules";
    SerialInSku "serial-in-sku" Flag, "the serial stands in SKU, and a board number in SerialNumber", "Dell: recorded trees";
    DatesZero "dates-zero" Flag, "dates are 0000-00-00T00:00:00Z", "nv-redfish bmc_quirks";
    FieldsMissing "fields-missing" Flag, "Id and Name are missing everywhere", "AMI: nv-redfish bmc_quirks";
    EnumsNull "enums-null" Flag, "health, state and types are null", "HPE, AMI: recorded trees";
    EnumsUnknown "enums-unknown" Flag, "health, state and types are words that no schema has", "DSP0266, tolerance of clients";
    HideDrives "hide-drives" Flag, "storage is shown without its drives", "many BMCs while the machine is off";
    DrivesNoSerial "drives-no-serial" Flag, "drives have neither serial nor identifiers", "Supermicro, AMI: recorded trees";
    Sensors "sensors" Word(&["classic", "new"]), "Thermal and Power alone, or the newer subsystems alone", "recorded trees";
    // Firmware and tasks
    TaskTime "task-time" Time, "how long a task takes", "every BMC";
    TaskVanishes "task-vanishes" Flag, "a finished task is gone once its monitor was read", "XCC: bmclib lenovo.go";
    TaskEndless "task-endless" Flag, "a task runs forever", "iDRAC job queue";
    TaskFails "task-fails" Flag, "a task fails at its half", "every BMC";
    TaskJobIds "task-job-ids" Flag, "tasks are named JID_…", "Dell: recorded trees";
    TaskNoLocation "task-no-location" Flag, "202 names no monitor", "AMI";
    UpdateIgnored "update-ignored" Flag, "an update completes and the version stays", "dsx libredfish";
    UpdateNoPush "update-no-push" Flag, "there is no MultipartHttpPushUri", "iLO5, X10: recorded trees";
    // BIOS
    BiosSettings "bios-settings" Word(&["Settings", "SD", "Pending"]), "where BIOS attributes are written", "Dell, NVIDIA Settings; Supermicro, AMI SD; XCC Pending";
    BiosUnannounced "bios-unannounced" Flag, "the settings resource of the BIOS is not announced", "Gigabyte: ansible PR#6434";
    BiosNeedsApplyTime "bios-needs-apply-time" Flag, "without @Redfish.SettingsApplyTime nothing is ever applied", "Dell: ansible _redfish_utils";
    BiosPendingBlocks "bios-pending-blocks" Flag, "while something is pending, a further change is 400", "Dell: libredfish dell.rs";
    BiosNoAttributes "bios-no-attributes" Flag, "without anything pending there are no Attributes", "Supermicro: libredfish supermicro.rs";
    BiosIgnored "bios-ignored" Flag, "what is pending is dropped at the next reset", "metal-operator";
    BiosReadOnly "bios-read-only" Text, "this attribute cannot be written", "HttpDev1Uri of Dell 7.10: recorded trees";
    // Virtual media
    MediaUnder "media-under" Word(&["systems", "both"]), "virtual media stand below the system, or below both", "sushy, bmclib";
    MediaSlots "media-slots" Words, "names of the slots", "EXT1, CD, VirtualMedia1: recorded trees";
    MediaPatchOnly "media-patch-only" Flag, "no InsertMedia: a PATCH of Image", "XCC: sushy virtual_media.py";
    MediaNeedsProtocol "media-needs-protocol" Flag, "InsertMedia needs TransferProtocolType", "Supermicro: sushy virtual_media.py";
    MediaNeedsMethod "media-needs-method" Flag, "InsertMedia needs TransferMethod", "sushy virtual_media.py";
    MediaNeedsUser "media-needs-user" Flag, "InsertMedia needs UserName and Password", "DGX: sushy virtual_media.py";
    MediaNoInserted "media-no-inserted" Flag, "Inserted and WriteProtected are refused", "Supermicro X11, iLO4: sushy virtual_media.py";
    MediaEjectLag "media-eject-lag" Time, "after an eject the medium is shown for so long, and an insert is 500", "Dell: ironic boot.py";
    MediaNameStays "media-name-stays" Flag, "ImageName is not cleared by an eject", "Supermicro: ansible _redfish_utils";
    MediaFirstRefuses "media-first-refuses" Word(&["400", "405", "eject-only"]), "the first slot takes no image", "Cisco UCS, OpenBMC, GB300: ironic boot.py";
    // Logs and events
    LogEntries "log-entries" Count(5000), "the event log has so many entries", "every BMC after some years";
    LogNoClear "log-no-clear" Flag, "logs cannot be cleared", "recorded trees";
    LogHostile "log-hostile" Flag, "log entries hold escape sequences of terminals", "hostile: no vendor";
    NoEvents "no-events" Flag, "there is no event service", "Supermicro X10: recorded trees";
    SseCut "sse-cut" Flag, "the event stream ends after its first event", "every proxy";
    // IPMI
    IpmiOff "ipmi-off" Flag, "IPMI over LAN is switched off: no packet is answered", "iLO5, XCC, OpenBMC as delivered: their user guides";
    IpmiOld "ipmi-old" Flag, "IPMI 1.5 alone: no RMCP+", "BMCs of before 2004: IPMI 2.0, 22.13";
    IpmiNoSuite17 "ipmi-no-suite-17" Flag, "cipher suite 17 is refused, 3 is there", "BMCs of before 2013: xcat-core#6002";
    IpmiPrivilege "ipmi-privilege" Word(&["operator", "user"]), "no session gets more than this privilege", "Cisco UCS, driven with -L operator: ipmitool#363";
    IpmiOtherPassword "ipmi-other-password" Flag, "IPMI asks for another password than Redfish", "OpenBMC keeps IPMI's passwords in a store of their own: phosphor-net-ipmid";
    IpmiNoRoom "ipmi-no-room" Count(100_000), "the next so many log-ins are answered that there is no room for a session", "IPMI 2.0, table 13-15; every BMC whose sessions were leaked";
    IpmiMute "ipmi-mute" Word(&["rakp2", "open", "rakp4"]), "this message of the handshake never comes", "UCS and others, with ipmitool 1.8.19: ipmitool#376";
    IpmiSequence "ipmi-sequence" Word(&["same", "swapped"]), "answers are all numbered 1, or numbered with their bytes swapped", "Sun ILOM: FreeIPMI's workaround endianseq";
    IpmiDrop "ipmi-drop" Count(1000), "every packet of this number is lost: 4 means each fourth", "every network that carries UDP";
    IpmiSessionDrop "ipmi-session-drop" Count(100_000), "a session is forgotten after so many commands, without a word", "BMCs that restart: IPMI 2.0, 6.12.15";
    IpmiBusy "ipmi-busy" Count(100_000), "the next so many commands are answered that the node is busy (0xC0)", "Ironic waits 5 s between commands: conf/ipmi.py";
    IpmiSlow "ipmi-slow" Time, "each answer comes after this", "10 s for the cipher suites: ipmitool#199";
    IpmiNoParameter3 "ipmi-no-parameter-3" Flag, "parameter 3 of the boot options is refused", "racker PR#36, go-ipmi PR#74";
    IpmiBootIgnored "ipmi-boot-ignored" Flag, "boot flags are taken and not kept", "Supermicro X11 without UEFI: ironic ipmitool.py:166";
    IpmiBootInvalid "ipmi-boot-invalid" Flag, "boot flags are kept with their valid bit clear, and not honoured", "os-autoinst-distri-opensuse PR#17794";
    IpmiSmallReads "ipmi-small-reads" Flag, "records are read in pieces of 16 bytes at most", "IPMI 2.0, 33.12 and 34.2: BMCs with small buffers";
}
