"""`ourvidz demo`: every job type and every reference mode once, on real engines, with a crash in the middle."""
