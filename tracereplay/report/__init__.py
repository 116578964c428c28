"""Tables, plots and the HTML page; a reporter receives frames and never opens a trace."""
