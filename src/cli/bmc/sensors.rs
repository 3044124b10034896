//! `bmc sensors`: what machines measure.

use super::look;
use crate::{
    bmc::sensors::{Kind, Reading, Stated},
    cli::{args::bmc::Sensors, globals::Globals},
    output::{Exit, Stop},
};

pub fn run(globals: &Globals, args: &Sensors) -> Result<Exit, Stop> {
    let rows = look::over(globals, &args.targets, |client| Box::pin(client.sensors()))?;
    look::show(
        globals,
        rows,
        |wide| {
            let mut headers = vec!["SENSOR", "KIND", "READING", "HEALTH"];
            if wide {
                headers.extend(["CHASSIS", "LOW CRITICAL", "LOW", "HIGH", "HIGH CRITICAL"]);
            }
            headers
        },
        |readings, wide| {
            let mut lines: Vec<Vec<String>> = readings.sensors.iter().map(|r| cells(r, wide)).collect();
            lines.extend(readings.states.iter().map(|s| stated(s, wide)));
            if let Some(watts) = readings.power_watts {
                let mut line = vec![
                    "(whole machine)".into(),
                    Kind::Power.word().into(),
                    format!("{} W", number(watts)),
                    "-".into(),
                ];
                if wide {
                    line.extend(std::iter::repeat_n("-".to_owned(), 5));
                }
                lines.push(line);
            }
            lines
        },
    )
}

/// A sensor that is in a state: what it says stands where others have their number.
fn stated(sensor: &Stated, wide: bool) -> Vec<String> {
    let states = Some(sensor.states.join(", ")).filter(|s| !s.is_empty());
    let mut line = vec![sensor.name.clone(), sensor.kind.clone(), look::or_dash(&states), "-".to_owned()];
    if wide {
        line.extend(std::iter::repeat_n("-".to_owned(), 5));
    }
    line
}

fn cells(reading: &Reading, wide: bool) -> Vec<String> {
    let unit = match reading.unit.as_deref() {
        Some("Cel") => " °C".to_owned(),
        // UCUM's turns a minute.
        Some("{rev}/min") => " RPM".to_owned(),
        Some("%") => " %".to_owned(),
        Some(unit) => format!(" {unit}"),
        None => String::new(),
    };
    let mut line = vec![
        reading.name.clone(),
        reading.kind.word().to_owned(),
        format!("{}{unit}", number(reading.value)),
        look::or_dash(&reading.health),
    ];
    if wide {
        let limit = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
        let limits = &reading.limits;
        line.push(look::or_dash(&Some(reading.chassis.clone()).filter(|c| !c.is_empty())));
        line.extend([limits.low_critical, limits.low_warning, limits.high_warning, limits.high_critical].map(limit));
    }
    line
}

/// At most two digits behind the point, none that say nothing.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_short() {
        assert_eq!([24.0, 0.5, 11.987, 100.0, -3.0].map(number), ["24", "0.5", "11.99", "100", "-3"]);
    }
}
