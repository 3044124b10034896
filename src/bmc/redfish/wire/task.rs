//! Work that goes on after its answer (DSP0266, 12.2; DSP8010, Task; Dell's jobs).

use super::Message;

resource! {
    Task {
        "@odata.id" odata_id: String,
        "@odata.type" odata_type: String,
        "Id" id: String,
        "Name" name: String,
        "TaskState" state: String,
        "TaskStatus" status: String,
        "PercentComplete" percent: u32,
        "JobState" job_state: String,
        "Message" message: String,
    } lists { "Messages" messages: Message, }
}
