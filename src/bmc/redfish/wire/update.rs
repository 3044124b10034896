//! Firmware: what is there, and how a BMC takes another (DSP8010, SoftwareInventory and UpdateService).

use super::{Link, Status};

resource! {
    Software {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "Version" version: String,
        "Updateable" updateable: bool,
        "Manufacturer" manufacturer: String,
        "ReleaseDate" released: String,
        "SoftwareId" software_id: String,
        "Status" status: Status,
    } lists {}
}
resource! {
    UpdateService {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "HttpPushUri" push: String,
        "MultipartHttpPushUri" multipart: String,
        "MaxImageSizeBytes" most_bytes: u64,
        "FirmwareInventory" firmware: Link,
        "Actions" actions: UpdateActions,
    } lists {}
}
resource! { UpdateActions { "#UpdateService.SimpleUpdate" simple: SimpleUpdate, } lists {} }
resource! {
    SimpleUpdate {
        "target" target: String,
        "@Redfish.ActionInfo" info: String,
    } lists { "TransferProtocol@Redfish.AllowableValues" protocols: String, }
}
