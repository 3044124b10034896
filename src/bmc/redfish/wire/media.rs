//! Virtual media (DSP8010, VirtualMedia).

use super::Action;

resource! {
    VirtualMedia {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "Image" image: String,
        "ImageName" image_name: String,
        "Inserted" inserted: bool,
        "WriteProtected" write_protected: bool,
        "ConnectedVia" connected: String,
        "Actions" actions: MediaActions,
    } lists { "MediaTypes" kinds: String, }
}
resource! {
    MediaActions {
        "#VirtualMedia.InsertMedia" insert: Action,
        "#VirtualMedia.EjectMedia" eject: Action,
    } lists {}
}
