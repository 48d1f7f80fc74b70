use serde_json::{Value, from_value, json, to_value};

use super::*;

const ID: ChannelId = ChannelId([0xab; 32]);

#[test]
fn names_signatures_and_transactions_travel_as_hex() {
    let hex = "ab".repeat(32);
    assert_eq!(to_value(ID).unwrap(), json!(hex));
    assert_eq!(hex.parse(), Ok(ID));
    let signature = UpdateSignature([1; 65]);
    let text = to_value(signature).unwrap();
    assert_eq!(text, json!("01".repeat(65)));
    assert_eq!(from_value::<UpdateSignature>(text).unwrap(), signature);
    let raw = RawTx::new(vec![2; 10]).unwrap();
    assert_eq!(from_value::<RawTx>(to_value(&raw).unwrap()).unwrap(), raw);
}

#[test]
fn what_is_no_hex_or_of_another_length_is_refused() {
    for text in ["", "ab", &"ab".repeat(33), &"zz".repeat(32), &"ä".repeat(32)] {
        assert_eq!(text.parse::<ChannelId>(), Err(WireError::ChannelId), "{text}");
        assert_eq!(text.parse::<UpdateSignature>(), Err(WireError::UpdateSignature), "{text}");
    }
    assert_eq!("abc".parse::<RawTx>(), Err(WireError::RawTx));
}

#[test]
fn a_raw_transaction_has_a_longest_length() {
    assert!("00".repeat(MAX_RAW_TX_BYTES).parse::<RawTx>().is_ok());
    assert_eq!("00".repeat(MAX_RAW_TX_BYTES + 1).parse::<RawTx>(), Err(WireError::RawTx));
    assert_eq!(RawTx::new(vec![0; MAX_RAW_TX_BYTES + 1]), Err(WireError::RawTx));
    let longest = RawTx::new(vec![0; MAX_RAW_TX_BYTES]).unwrap();
    let agreement_signature = MessageSignature([0; 64]);
    let body = FundingRequest { agreement_signature, raw_tx: Some(longest) };
    assert!(serde_json::to_string(&body).unwrap().len() <= MAX_FUNDING_BODY_BYTES);
}

fn update() -> Value {
    json!({ "change_sat": 5, "signature": "01".repeat(65) })
}

#[test]
fn an_unknown_field_is_refused() {
    let body: UpdateBody = from_value(update()).unwrap();
    assert_eq!(body, UpdateBody { change_sat: 5, signature: UpdateSignature([1; 65]) });
    let mut more = update();
    more["tip"] = json!(1);
    assert!(from_value::<UpdateBody>(more).is_err());
    for wrong in [json!(-1), json!(1.5), json!("5"), json!(null)] {
        let mut body = update();
        body["change_sat"] = wrong;
        assert!(from_value::<UpdateBody>(body).is_err());
    }
}

#[test]
fn a_completion_says_which_path_it_signs() {
    let half = CloseHalf::PayLeaf(MessageSignature([7; 64]));
    let leaf = CloseCompletion { half, receipt_signature: None };
    let text = to_value(leaf).unwrap();
    assert_eq!(text, json!({ "pay_leaf": "07".repeat(64) }));
    assert_eq!(from_value::<CloseCompletion>(text).unwrap(), leaf);
    let receipt_signature = Some(MessageSignature([8; 64]));
    let text = to_value(CloseCompletion { half, receipt_signature }).unwrap();
    let both = json!({ "pay_leaf": "07".repeat(64), "receipt_signature": "08".repeat(64) });
    assert_eq!(text, both);
    for neither in [json!({}), json!({ "receipt_signature": "08".repeat(64) })] {
        assert!(from_value::<CloseCompletion>(neither).is_err());
    }
}

#[test]
fn a_refusal_has_a_reason_a_message_and_perhaps_the_newest_update() {
    let error = ApiError::new("stale", "go on from the newest");
    let text = to_value(&error).unwrap();
    assert_eq!(text, json!({ "reason": "stale", "message": "go on from the newest" }));
    assert_eq!(from_value::<ApiError>(text).unwrap(), error);
    let newest = Some(Box::new(from_value(update()).unwrap()));
    let with_newest = ApiError { newest, ..error };
    let text = to_value(&with_newest).unwrap();
    assert_eq!(text["newest"], update());
    assert_eq!(from_value::<ApiError>(text).unwrap(), with_newest);
}

#[test]
fn a_message_that_is_too_long_is_cut_between_characters() {
    let error = ApiError::new("x", "ä".repeat(MAX_MESSAGE_BYTES));
    assert_eq!(error.message, "ä".repeat(MAX_MESSAGE_BYTES / 2));
}

#[test]
fn every_status_is_an_error_of_http() {
    let reasons = [
        ("no_channel", 404),
        ("stale", 409),
        ("too_many_channels", 429),
        ("chain_unavailable", 503),
        ("forged", 422),
        ("whatever", 422),
    ];
    for (reason, status) in reasons {
        assert_eq!(ApiError::new(reason, "").status(), status);
    }
}
