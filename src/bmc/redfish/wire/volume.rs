//! Volumes of storage controllers (DSP8010, Volume).

use super::{Link, Status};

resource! {
    Volume {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "DisplayName" display_name: String,
        "RAIDType" raid: String,
        "VolumeType" kind: String,
        "CapacityBytes" capacity: u64,
        "Status" status: Status,
        "Links" links: VolumeLinks,
    } lists {}
}
resource! { VolumeLinks {} lists { "Drives" drives: Link, } }
