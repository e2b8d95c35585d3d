#!/usr/bin/env bash
# report_in_browser.sh REPORT.html [FOLDER]: opens a report in headless Chromium, on a wide page, light and dark, and on
# a phone, and fails if anything is logged to the console, leaves the page's width, or lacks a text alternative.
# Screenshots are left in FOLDER.
set -euo pipefail
report=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
shots=${2:-$work}
mkdir -p "$shots"
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
    { echo "no Chromium: install it (Debian: chromium)" >&2; exit 1; }

# The report itself allows no script, so a copy without that rule is measured from outside, in a frame as wide as a screen.
grep -v '^<meta http-equiv="Content-Security-Policy"' "$report" > "$work/report.html"

measure='
const page = document.querySelector("iframe").contentDocument, root = page.documentElement, found = [];
if (root.scrollWidth > root.clientWidth) found.push("the page is " + root.scrollWidth + " pixels wide");
for (const e of page.querySelectorAll("body *")) {
  const wide = e.getBoundingClientRect().right > root.clientWidth + 1;
  if (wide && !e.closest(".wide")) found.push("<" + e.tagName + "> leaves the page");
}
const pictures = page.querySelectorAll("svg");
if (pictures.length === 0) found.push("no picture");
for (const e of pictures) {
  const named = e.getAttribute("role") === "img" && e.getAttribute("aria-label") && e.querySelector("desc").textContent;
  if (!named) found.push("a picture without a text alternative");
  if (e.getBoundingClientRect().width < 100) found.push("a picture that cannot be seen");
}
if (page.querySelectorAll("img:not([alt]), script, link").length > 0) found.push("something from outside");
const small = [...page.querySelectorAll("p, li, dd, td")].filter(e => parseFloat(getComputedStyle(e).fontSize) < 14);
if (small.length > 0) found.push("text that is too small");
const paper = getComputedStyle(page.body).backgroundColor;
document.title = found.join("; ") || "fine on " + paper;
'

# look NAME WIDTH HEIGHT SCHEME PAPER: the background says whether the page followed the scheme.
look() {
    local name=$1 width=$2 height=$3 scheme=$4 paper=$5 result
    cat > "$work/$name.html" <<HTML
<!DOCTYPE html><html><head><meta charset="utf-8"><meta name="color-scheme" content="light dark"></head>
<body style="margin:0"><iframe src="report.html" style="width:${width}px;height:${height}px;border:0"></iframe>
<script>addEventListener("load", () => { $measure });</script></body></html>
HTML
    timeout 120 "$browser" --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
        --disable-sync --disable-extensions --user-data-dir="$work/profile" --allow-file-access-from-files \
        --blink-settings="preferredColorScheme=$scheme" --enable-logging=stderr --hide-scrollbars --virtual-time-budget=5000 \
        --window-size="$width,$height" --screenshot="$shots/$name.png" --dump-dom "file://$work/$name.html" \
        > "$work/$name.dom" 2> "$work/$name.log" || { tail -5 "$work/$name.log" >&2; echo "$name: the browser failed" >&2; exit 1; }
    if grep -F CONSOLE "$work/$name.log"; then
        echo "$name: something was logged to the console" >&2
        exit 1
    fi
    result=$(sed -n 's:.*<title>\(.*\)</title>.*:\1:p' "$work/$name.dom" | head -1)
    [ "$result" = "fine on $paper" ] || { echo "$name: ${result:-nothing was measured}" >&2; exit 1; }
    echo "$report on a $name page: $result"
}

look light 1200 3000 1 "rgb(255, 255, 255)"
look dark 1200 3000 0 "rgb(21, 23, 27)"
look phone 390 6000 1 "rgb(255, 255, 255)"
look phone-dark 390 6000 0 "rgb(21, 23, 27)"
