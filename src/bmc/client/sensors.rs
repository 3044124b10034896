//! Reading sensors, of whichever generation a BMC has them.

use super::{Client, ground::Ground, walk::Source};
use crate::{
    bmc::{
        link,
        redfish::{
            json::clean,
            wire::{Chassis, Link, sensor as wire},
        },
        sensors::{self, Kind, Readings},
    },
    model::Failure,
};

/// Sensors of one chassis; the most that were seen are 236.
const MAX_SENSORS: usize = 512;
const MAX_PARTS: usize = 64;

/// Everything that the chassis of the system measure.
///
/// The classic Thermal and Power come first where they are there, for each is one request and a collection of sensors one
/// per sensor; a BMC that writes collections out (`$expand`) is asked for its sensors, which say more.
pub async fn gather_sensors<S: Source>(ground: &Ground<'_, S>) -> Result<Readings, Failure> {
    let (mut all, mut looked) = (Readings::default(), Vec::new());
    let own = ground.chassis().await?;
    for (path, chassis) in &own {
        of_chassis(ground, path, chassis, &mut all, &mut looked).await?;
    }
    if all.sensors.is_empty() {
        for (path, chassis) in ground.other_chassis(&own).await? {
            of_chassis(ground, &path, &chassis, &mut all, &mut looked).await?;
        }
    }
    if all.sensors.is_empty() && all.power_watts.is_none() {
        let looked: Vec<&str> = looked.iter().map(String::as_str).collect();
        let what = if all.silent > 0 { "sensor with a reading" } else { "sensor" };
        return Err(match looked.is_empty() {
            true => ground.lacks("read its sensors", what, &["Sensors, Thermal and Power of its chassis"]),
            false => ground.lacks("read its sensors", what, &looked),
        });
    }
    all.sensors.sort_by(|a, b| (&a.chassis, a.kind).cmp(&(&b.chassis, b.kind)));
    Ok(all)
}

async fn of_chassis<S: Source>(
    ground: &Ground<'_, S>,
    path: &str,
    chassis: &Chassis,
    all: &mut Readings,
    looked: &mut Vec<String>,
) -> Result<(), Failure> {
    let expands = ground.root.features.as_ref().and_then(|f| f.expand.as_ref()).and_then(|e| e.no_links) == Some(true);
    let links = [&chassis.sensors, &chassis.classic_thermal, &chassis.classic_power];
    looked.extend(links.iter().filter_map(|l| Link::path(l)).map(str::to_owned));
    let id = chassis.id.as_deref().map_or_else(|| clean(link::last_segment(path)), clean);
    let before = all.sensors.len();
    let mut draw = None;
    if expands {
        own(ground, chassis, &id, all).await?;
    }
    if all.sensors.len() == before {
        draw = classic(ground, chassis, &id, all).await?;
    }
    if all.sensors.len() == before && !expands {
        own(ground, chassis, &id, all).await?;
    }
    if all.sensors.len() == before {
        subsystems(ground, chassis, &id, all).await?;
    }
    if all.power_watts.is_none() {
        let environment: Option<wire::EnvironmentMetrics> = ground.maybe(&chassis.environment).await?;
        let watts = environment.and_then(|e| e.watts).and_then(|w| w.reading);
        let control: Option<wire::Power> = match draw {
            None if watts.is_none() => ground.maybe(&chassis.classic_power).await?,
            _ => None,
        };
        let control = control.and_then(|c| c.control).unwrap_or_default();
        all.power_watts = sensors::draw(watts, &control, &[]).or(draw);
    }
    Ok(())
}

async fn own<S: Source>(
    ground: &Ground<'_, S>,
    chassis: &Chassis,
    id: &str,
    all: &mut Readings,
) -> Result<(), Failure> {
    let Some(path) = Link::path(&chassis.sensors) else { return Ok(()) };
    let found = ground.members::<wire::Sensor>(path, MAX_SENSORS).await?.unwrap_or_default();
    found.iter().for_each(|(path, sensor)| all.add(sensors::sensor(path, id, sensor)));
    Ok(())
}

/// Thermal and Power; gives the draw.
async fn classic<S: Source>(
    ground: &Ground<'_, S>,
    chassis: &Chassis,
    id: &str,
    all: &mut Readings,
) -> Result<Option<f64>, Failure> {
    if let Some(thermal) = ground.maybe::<wire::Thermal>(&chassis.classic_thermal).await? {
        for (kind, list) in [(Kind::Temperature, &thermal.temperatures), (Kind::Fan, &thermal.fans)] {
            list.iter().flatten().for_each(|element| all.add(sensors::classic(id, kind, element)));
        }
    }
    let Some(power) = ground.maybe::<wire::Power>(&chassis.classic_power).await? else { return Ok(None) };
    for (kind, list) in
        [(Kind::Power, &power.control), (Kind::Power, &power.supplies), (Kind::Voltage, &power.voltages)]
    {
        list.iter().flatten().for_each(|element| all.add(sensors::classic(id, kind, element)));
    }
    let supplies: Vec<f64> = power.supplies.iter().flatten().filter_map(|s| s.input_w).collect();
    Ok(sensors::draw(None, power.control.as_deref().unwrap_or_default(), &supplies))
}

/// Fans, thermal metrics and supplies where there is neither a sensor nor a classic list.
async fn subsystems<S: Source>(
    ground: &Ground<'_, S>,
    chassis: &Chassis,
    id: &str,
    all: &mut Readings,
) -> Result<(), Failure> {
    if let Some(thermal) = ground.maybe::<wire::ThermalSubsystem>(&chassis.thermal).await? {
        if let Some(path) = Link::path(&thermal.fans) {
            for (path, fan) in ground.members::<wire::Fan>(path, MAX_PARTS).await?.unwrap_or_default() {
                let name = fan.name.unwrap_or_else(|| link::last_segment(&path).to_owned());
                all.add(sensors::measured(id, &name, Kind::Fan, "%", &fan.speed));
            }
        }
        let metrics = ground.maybe::<wire::ThermalMetrics>(&thermal.metrics).await?.unwrap_or_default();
        for one in metrics.temperatures.into_iter().flatten().take(MAX_SENSORS) {
            let source = one.source.as_deref().map(link::last_segment);
            let name = one.device.as_deref().or(source).or(one.context.as_deref()).unwrap_or("temperature").to_owned();
            all.add(sensors::measured(id, &name, Kind::Temperature, "Cel", &Some(one)));
        }
    }
    if let Some(power) = ground.maybe::<wire::PowerSubsystem>(&chassis.power_subsystem).await?
        && let Some(path) = Link::path(&power.supplies)
    {
        let mut input = Vec::new();
        for (path, supply) in ground.members::<wire::PowerSupply>(path, MAX_PARTS).await?.unwrap_or_default() {
            let name = supply.name.unwrap_or_else(|| link::last_segment(&path).to_owned());
            let metrics = ground.maybe::<wire::PowerSupplyMetrics>(&supply.metrics).await?.unwrap_or_default();
            input.extend(metrics.input_w.as_ref().and_then(|m| m.reading));
            let told = metrics.input_w.or(metrics.output_w);
            all.add(sensors::measured(id, &name, Kind::Power, "W", &told));
        }
        all.power_watts = all.power_watts.or(sensors::draw(None, &[], &input));
    }
    Ok(())
}

impl Client {
    /// What the machine's chassis measure.
    pub async fn sensors(&self) -> Result<Readings, Failure> {
        self.limited("read its sensors", async {
            let view = self.fresh_view(false).await?;
            gather_sensors(&self.ground(&view)).await
        })
        .await
    }
}
