"""The human study of the paper (Section 4.4, Appendix D, Fig. 7, Table 4): pages for raters out, a table back in."""
