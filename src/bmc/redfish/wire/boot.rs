//! What a machine may boot from, as an entry of its order (DSP8010, BootOption).

resource! {
    /// `BootOptionReference` is the word that stands in `BootOrder`.
    BootOption {
        "@odata.id" odata_id: String,
        "Id" id: String,
        "Name" name: String,
        "BootOptionReference" reference: String,
        "BootOptionEnabled" enabled: bool,
        "Alias" alias: String,
        "DisplayName" display: String,
        "UefiDevicePath" path: String,
    } lists {}
}
