//! The last step of a key: planning relies on it that no later step has a place that is taken.

use std::time::Duration;

use proptest::prelude::*;

use super::pages::commit;
use crate::limits::StepUsage;
use crate::media::{MediaKey, RunId, Step};
use crate::store::lock::Holder;
use crate::store::open;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn the_last_step_of_a_key_is_the_last_with_a_place(
        cases in prop::collection::vec((0u8..4, 0u8..3, 0u8..3, 0u8..5), 0..40),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let me = Holder { pid: 1, command: "test".to_owned(), socket: None };
        let opened = open(&folder.path().join("store"), &me, Duration::ZERO);
        let (mut writer, reader) = opened.expect("a store");
        for one in (0..).zip(&cases) {
            writer.commit(&mut vec![commit(one)]).expect("a commit");
        }
        for run in ["r", "r2", "s"].map(|run| RunId::new(run).expect("a name")) {
            for key in ["a", "b", "b/c"].map(|key| MediaKey::new(key).expect("a key")) {
                let is_used = |step: &Step| {
                    reader.usage(&run, &key, *step).expect("the usage") != StepUsage::default()
                };
                let want = (0..5).map(Step).rfind(is_used);
                prop_assert_eq!(reader.last_step(&run, &key).expect("a step"), want, "{} {}", run, key);
            }
        }
    }
}
