"""Labels that try to be more than text: HTML, white space, other directions, what XML and TeX cannot hold."""

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><b>",
    "",
    "   ",
    "\n",
    "שלום",
    "x" * 60,
    "a&b\"']]><svg onload=alert(1)>",
    "\u202eevil",
    "\x00\x1b\ufffe\ud800",
    "$x^{",
    "👩\u200d🚀",
]
