"""System Admin → MLOps: the operator's page. It shows and dispatches; it trains, checks and promotes nothing itself.

To add a page:

1. `admin/routes/NAME.py` with `pages = Pages()`; each function is declared with `@pages.get(path, action="name.read")`
   or `@pages.post(path, action="name.do")` and takes `context: Context`. It is found by being there.
   or `@pages.post(path, action="name.do")` and takes `context: Context`. It is found by being there.
   ends with `context.show("NAME.html", title=…, …)`, or `context.done("What was done.", to=…)`. Errors are raised.
3. `admin/templates/NAME.html` extends `base.html` and fills the block `main`, which HTMX gets alone; the macros of
   `parts/macros.html` are there as `ui`. Forms are `ui.action(…)`, or have `ui.csrf()`. Style and script: `static/`.
4. Lists: `listing.shown` (in memory) or `listing.stretch` (cursor), with `ui.filters`, `ui.sortable`, `ui.pager`.
5. Live: `data-live` on a part that is fetched anew by `hx-get`, `hx-trigger="live:changed from:body"`; `ui.live(…)`.
6. Charts: the block `head` loads uPlot, `<div class="chart" data-chart="{{ … | as_json }}">` draws. Pictures that share
   a time axis, or whose marks are links: the macros of `parts/plots.html` on the axes of `admin.pictures.axes`.
7. `tests/integration/admin/test_NAME.py` with the fixtures `operator`, `viewer` and `services`; `test_admin_routes.py`
   tries each route by itself as nobody, as a viewer and without the form's token.
"""
