"""One file per migration; what was released is never changed."""
