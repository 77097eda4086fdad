//! A value that its owner gives up while readers may still look at it.
