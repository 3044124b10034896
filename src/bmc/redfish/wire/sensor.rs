//! Sensors: the resources of their own, the subsystems, and the classic Thermal and Power (DSP8010).

use super::{Link, Status};

resource! {
    /// `ReadingType`: `Temperature`, `Rotational`, `Power`, …
    Sensor {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "Reading" reading: f64,
        "ReadingUnits" unit: String,
        "ReadingType" kind: String,
        "Thresholds" thresholds: Thresholds,
        "Status" status: Status,
    } lists {}
}
resource! {
    Thresholds {
        "LowerCaution" lower_caution: Threshold,
        "LowerCritical" lower_critical: Threshold,
        "LowerFatal" lower_fatal: Threshold,
        "UpperCaution" upper_caution: Threshold,
        "UpperCritical" upper_critical: Threshold,
        "UpperFatal" upper_fatal: Threshold,
    } lists {}
}
resource! { Threshold { "Reading" reading: f64, } lists {} }

resource! { Thermal {} lists { "Temperatures" temperatures: Classic, "Fans" fans: Classic, } }
resource! {
    Power {} lists {
        "PowerControl" control: Classic,
        "PowerSupplies" supplies: Classic,
        "Voltages" voltages: Classic,
    }
}
resource! {
    /// One element of the classic lists: which of the readings it has says what it is.
    Classic {
        "MemberId" id: String,
        "Name" name: String,
        "FanName" fan_name: String,
        "ReadingCelsius" celsius: f64,
        "Reading" reading: f64,
        "ReadingUnits" unit: String,
        "ReadingVolts" volts: f64,
        "PowerConsumedWatts" consumed_w: f64,
        "PowerInputWatts" input_w: f64,
        "PowerOutputWatts" output_w: f64,
        "LastPowerOutputWatts" last_output_w: f64,
        "LowerThresholdNonCritical" lower_caution: f64,
        "LowerThresholdCritical" lower_critical: f64,
        "LowerThresholdFatal" lower_fatal: f64,
        "UpperThresholdNonCritical" upper_caution: f64,
        "UpperThresholdCritical" upper_critical: f64,
        "UpperThresholdFatal" upper_fatal: f64,
        "Status" status: Status,
    } lists {}
}

resource! { ThermalSubsystem { "Fans" fans: Link, "ThermalMetrics" metrics: Link, } lists {} }
resource! { ThermalMetrics {} lists { "TemperatureReadingsCelsius" temperatures: Measured, } }
resource! {
    Fan {
        "Id" id: String,
        "Name" name: String,
        "SpeedPercent" speed: Measured,
        "Status" status: Status,
    } lists {}
}
resource! { PowerSubsystem { "PowerSupplies" supplies: Link, } lists {} }
resource! {
    PowerSupply {
        "Id" id: String,
        "Name" name: String,
        "Metrics" metrics: Link,
        "Status" status: Status,
    } lists {}
}
resource! {
    PowerSupplyMetrics {
        "InputPowerWatts" input_w: Measured,
        "OutputPowerWatts" output_w: Measured,
    } lists {}
}
resource! { EnvironmentMetrics { "PowerWatts" watts: Measured, "TemperatureCelsius" celsius: Measured, } lists {} }
resource! {
    /// A reading that is told beside others.
    Measured {
        "Reading" reading: f64,
        "SpeedRPM" rpm: f64,
        "DeviceName" device: String,
        "DataSourceUri" source: String,
        "PhysicalContext" context: String,
    } lists {}
}
