//! Writes: boot flags, power, the log, accounts, the BMC's own restart. Each is read back.

use std::time::Duration;

use tokio::time::sleep;

use super::{Client, Fail};
use crate::{
    bmc::{
        boot,
        client::Operation,
        ipmi::{
            Fault, chassis::Control, completion::Completion, message::Command, options, options::Flags,
            rakp::Privilege, sel, user,
        },
        reset::{self, Can},
        settle::{self, Driven, Glimpse, Sent},
    },
    model::{
        Failure, Secret,
        failure::Cause,
        power::{BootOverride, BootTarget, PowerAction, PowerState},
    },
};

const READ_BACK_TRIES: u32 = 4;
const READ_BACK_PAUSE: Duration = Duration::from_millis(500);
/// Emptying a log takes some BMCs half a minute.
const ERASE_TRIES: u32 = 120;
const ERASE_PAUSE: Duration = Duration::from_millis(500);

/// What [`Client::reset`] would send. `Err` says why IPMI cannot do it.
pub(super) fn control(action: PowerAction) -> Result<Command, String> {
    Control::for_action(action).map(Control::command).ok_or_else(|| {
        "IPMI cannot ask an operating system to restart, only to shut down (`rackctl power off`, then `power on`)"
            .into()
    })
}

fn line(c: &Command) -> String {
    format!("IPMI {} 0x{:02x} 0x{:02x} {}", c.name, c.function, c.number, hex::encode(&c.data))
}

impl Client {
    /// What [`Client::set_boot`] and [`Client::reset`] would send, as lines to read.
    pub async fn preview(&self, operations: &[Operation]) -> Result<Vec<Result<Vec<String>, String>>, Failure> {
        let mut all = Vec::new();
        for operation in operations {
            all.push(match operation {
                Operation::Reset(action) => control(*action).map(|command| vec![line(&command)]),
                Operation::SetBoot(want) => self.preview_flags(*want).await?,
            });
        }
        Ok(all)
    }

    /// What [`Client::set_boot`] would send now: one line, for both commands are sent one after the other.
    pub async fn preview_flags(&self, want: BootOverride) -> Result<Result<Vec<String>, String>, Failure> {
        let before = self.limited("read the boot override", self.flags()).await?;
        if want.is_cleared() && before.read().is_ok_and(|now| now.is_cleared()) {
            return Ok(Ok(Vec::new()));
        }
        let both = |flags| format!("{}, then {}", line(&options::keep_flags()), line(&options::set_flags(flags)));
        let maker = self.maker_if_it_counts(want).await?;
        Ok(Flags::wanted(want, before).map(|flags| vec![both(flags.of_maker(maker))]))
    }

    /// Sets the override, or clears it ([`BootOverride::CLEARED`]), and reads it back.
    pub async fn set_boot(&self, want: BootOverride) -> Result<(), Failure> {
        let doing = format!("set the boot override to {}", boot::words(want));
        self.limited(&doing, self.set_boot_now(want, &doing)).await
    }

    /// Who made it, where that changes the flags; `None` also where the BMC does not tell.
    async fn maker_if_it_counts(&self, want: BootOverride) -> Result<Option<&'static str>, Failure> {
        if want.target != BootTarget::Disk {
            return Ok(None);
        }
        match self.device().await {
            Ok(device) => Ok(device.maker()),
            Err(failure) if failure.cause == Cause::Refused => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn set_boot_now(&self, want: BootOverride, doing: &str) -> Result<(), Failure> {
        let fail = |cause, why: String| Failure::new(cause, self.what(doing), why);
        let before = self.flags().await?;
        if want.is_cleared() && before.read().is_ok_and(|now| now.is_cleared()) {
            return Ok(());
        }
        let wanted = Flags::wanted(want, before).map_err(|why| fail(Cause::Refused, why))?;
        let wanted = wanted.of_maker(self.maker_if_it_counts(want).await?);
        match self.ask(&options::keep_flags()).await {
            Ok(_) => {}
            // Some BMCs have no parameter 3 (Ironic goes on too).
            Err(refusal) if refusal.is_refusal() => {}
            Err(other) => return Err(self.told(doing, other)),
        }
        self.ask(&options::set_flags(wanted)).await.map_err(|e| self.told(doing, e))?;
        let mut seen = String::new();
        for attempt in 0..READ_BACK_TRIES {
            if attempt > 0 {
                sleep(READ_BACK_PAUSE).await;
            }
            let now = self.flags().await?;
            match now.read() {
                Ok(read) if boot::as_asked(want, read) => return Ok(()),
                Ok(read) => seen = boot::words(read),
                Err(word) => seen = format!("`{word}`"),
            }
            seen = format!("{seen} (flags {})", hex::encode(now.0));
        }
        let why = format!(
            "the BMC took the command and did not apply it: asked for {}, sent flags {}, read back {seen}",
            boot::words(want),
            hex::encode(wanted.0)
        );
        Err(fail(Cause::AcceptedButIgnored, why).next(format!("rackctl boot show {}", self.node)))
    }

    /// Sends one reset and does not wait for its effect.
    pub async fn reset(&self, action: PowerAction) -> Result<(), Failure> {
        settle::reset(self, action).await
    }

    /// Brings the machine on or off and waits until the BMC shows it; see [`settle::set_power`].
    pub async fn set_power(&self, on: bool, force: bool, deadline: Duration) -> Result<(), Failure> {
        settle::set_power(self, on, force, deadline).await
    }

    /// What a power verb asks; IPMI shows nothing of a restart, so it is made of parts that can be seen.
    pub async fn drive(&self, wish: reset::Wish, limit: Duration) -> Result<Option<String>, Failure> {
        settle::drive(self, wish, limit).await
    }

    /// What [`Client::drive`] would send now, as lines to read, in order.
    pub async fn preview_drive(&self, wish: reset::Wish) -> Result<Vec<String>, Failure> {
        let can = self.limited("see what its BMC offers", self.can()).await?;
        let moves = reset::moves(&self.node, wish, &can)?;
        let line = |(action, _): (PowerAction, PowerState)| match control(action) {
            Ok(command) => Ok(line(&command)),
            Err(why) => Err(Failure::new(Cause::Refused, self.what("preview"), why)),
        };
        reset::sends(&moves, can.now).into_iter().map(line).collect()
    }

    /// A diagnostic interrupt to the machine: its system dumps or stops, as it is set up to.
    pub async fn nmi(&self) -> Result<(), Failure> {
        const DOING: &str = "send a diagnostic interrupt";
        self.limited(DOING, async {
            if !self.chassis_now().await?.on {
                let why = "it is off: there is nothing to interrupt";
                return Err(Failure::new(Cause::Refused, self.what(DOING), why)
                    .next(format!("rackctl power status {}", self.node)));
            }
            settle::ask_leave(self.leave.as_ref(), PowerAction::ForceOff).await?;
            self.ask(&Control::Diagnostic.command()).await.map(drop).map_err(|fail| self.told(DOING, fail))
        })
        .await
    }

    /// Empties the event log and waits until it is.
    pub async fn sel_clear(&self) -> Result<(), Failure> {
        let doing = "clear the event log";
        self.limited(doing, async {
            let reservation = self.get(&sel::reserve()).await?;
            let reservation = sel::read_reservation(&reservation).map_err(|e| self.failure(doing, e.into()))?;
            let mut done = self.get(&sel::clear(reservation, true)).await?;
            for _ in 0..ERASE_TRIES {
                if sel::read_clear(&done).map_err(|e| self.failure(doing, e.into()))? {
                    return Ok(());
                }
                sleep(ERASE_PAUSE).await;
                done = self.get(&sel::clear(reservation, false)).await?;
            }
            let why = format!("the BMC is still at it after {} s", (ERASE_PAUSE * ERASE_TRIES).as_secs());
            Err(Failure::new(Cause::Deadline, self.what(doing), why))
        })
        .await
    }

    /// Gives the user a password, and asks the BMC whether it is the one.
    pub async fn set_password(&self, number: u8, password: &Secret) -> Result<(), Failure> {
        let doing = format!("set the password of user {number}");
        let set = user::set_password(number, password).map_err(|e| self.failure(&doing, e))?;
        let test = user::test_password(number, password).map_err(|e| self.failure(&doing, e))?;
        self.limited(&doing, async {
            self.get(&set).await?;
            self.ask(&test).await.map_err(|fail| match fail {
                Fail::Bmc(Fault::Completed(code)) if matches!(code.0, 0x80 | 0x81) => {
                    let why = "the BMC took the password and does not know it";
                    Failure::new(Cause::AcceptedButIgnored, self.what(&doing), why)
                }
                other => self.told(&doing, other),
            })?;
            Ok(())
        })
        .await
    }

    /// Names a user, and reads the name back. An empty name frees the place.
    pub async fn set_user_name(&self, number: u8, name: &str) -> Result<(), Failure> {
        let doing = format!("name user {number}");
        let set = user::set_name(number, name).map_err(|e| self.failure(&doing, e))?;
        self.limited(&doing, async {
            self.get(&set).await?;
            let read = self.get(&user::get_name(number)).await?;
            let read = user::read_name(&read).map_err(|e| self.failure(&doing, e.into()))?;
            self.kept(&doing, name, &read)
        })
        .await
    }

    /// What the user may do on this channel, read back. `None`: nothing. `enabled` as the log-in needs it.
    pub async fn set_user_access(
        &self,
        number: u8,
        privilege: Option<Privilege>,
        enabled: bool,
    ) -> Result<(), Failure> {
        let doing = format!("set the access of user {number}");
        self.limited(&doing, async {
            self.get(&user::set_access(number, privilege)).await?;
            self.get(&user::enable(number, enabled)).await?;
            let read = self.get(&user::get_access(number)).await?;
            let read = user::read_access(&read).map_err(|e| self.failure(&doing, e.into()))?;
            let word = |p: Option<Privilege>| p.map_or("no access", Privilege::word);
            self.kept(&doing, word(privilege), word(read.privilege))
        })
        .await
    }

    fn kept(&self, doing: &str, sent: &str, read: &str) -> Result<(), Failure> {
        if sent == read {
            return Ok(());
        }
        let why = format!("the BMC took the command and did not apply it: sent `{sent}`, read back `{read}`");
        Err(Failure::new(Cause::AcceptedButIgnored, self.what(doing), why))
    }
}

impl Driven for Client {
    type Request = Command;

    fn node(&self) -> &str {
        &self.node
    }
    fn deadline(&self) -> Duration {
        self.deadline
    }
    async fn power_now(&self) -> Result<PowerState, Failure> {
        Ok(self.chassis_now().await?.power())
    }
    async fn glimpse(&self) -> Result<Glimpse, Failure> {
        Ok(Glimpse { power: self.power_now().await?, mark: None, progress: None })
    }
    async fn can(&self) -> Result<Can, Failure> {
        let offers = reset::ACTIONS.into_iter().filter(|action| control(*action).is_ok()).collect();
        let told = control(PowerAction::GracefulRestart).err().unwrap_or_default();
        Ok(Can { now: self.power_now().await?, offers, marks: false, told })
    }
    async fn prepare(&self, action: PowerAction, doing: &str) -> Result<Command, Failure> {
        control(action).map_err(|why| Failure::new(Cause::Refused, self.what(doing), why))
    }
    async fn may_leave(&self, action: PowerAction) -> Result<(), Failure> {
        settle::ask_leave(self.leave.as_ref(), action).await
    }
    async fn send(&self, command: &Command, doing: &str) -> Result<Sent, Failure> {
        match self.ask(command).await {
            Ok(_) => Ok(Sent::Accepted),
            Err(Fail::Bmc(Fault::AnswerLost | Fault::Dropped(_))) => Ok(Sent::Unknown),
            Err(Fail::Bmc(Fault::Completed(Completion::NOT_NOW))) => {
                let failure = self.failure(doing, Fault::Completed(Completion::NOT_NOW));
                Ok(Sent::NotNow(failure))
            }
            Err(fail) if fail.is_refusal() => {
                let failure = self.told(doing, fail);
                match failure.cause {
                    Cause::Unauthorized => Err(failure),
                    _ => Ok(Sent::Refused(failure)),
                }
            }
            Err(fail) => Err(self.told(doing, fail)),
        }
    }
}
