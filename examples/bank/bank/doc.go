// Package bank has accounts, transfers between them, and the process that sees transfers
// through.
//
//	Send ──► Sent ──► Hold ──► Held ──► Receive ──► Received ──► Capture ──► Captured ──► Complete ──► Completed
//	                   │         │          │
//	                   │         │          └─ refused ──► Release, Fail ──► Failed
//	                   │         └─ the receiver is asked, and two minutes pass ──► Expire ──► Expired ──► Release
//	                   └─ refused ──► Fail ──► Failed
//
// At every moment all money is in the balances and holds, or has been received before its
// hold is captured: nothing is lost or made, whatever crashes.
package bank
