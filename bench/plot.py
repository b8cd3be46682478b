# SPDX-License-Identifier: MIT
"""Ratios to the ceiling as a picture: one line a measurement, the range as a bar, the median as a dot."""
import html

LEFT, WIDTH, ROW = 420, 380, 24


def draw(rows, path):
    most = max(1.6, max(row["ratio"]["max"] for row in rows) * 1.05)
    scale = lambda value: LEFT + WIDTH * value / most
    height = ROW * (len(rows) + 2)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 60}" height="{height}" '
             'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>']
    for tick in (0.5, 1.0, 1.5):
        parts.append(f'<line x1="{scale(tick):.1f}" x2="{scale(tick):.1f}" y1="8" y2="{height - ROW}" '
                     f'stroke="{"#888" if tick == 1 else "#ddd"}"/>'
                     f'<text x="{scale(tick):.1f}" y="{height - 8}" text-anchor="middle">{tick}</text>')
    for i, row in enumerate(rows):
        ratio, y = row["ratio"], ROW * i + 20
        colour = "#b44" if "CPU" in row["what"] else "#247"
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">'
                     f'{html.escape(row["name"] + ": " + row["what"])}</text>'
                     f'<line x1="{scale(ratio["min"]):.1f}" x2="{scale(ratio["max"]):.1f}" y1="{y}" y2="{y}" '
                     f'stroke="{colour}" stroke-width="3" stroke-opacity="0.4"/>'
                     f'<circle cx="{scale(ratio["median"]):.1f}" cy="{y}" r="4" fill="{colour}"/>'
                     f'<text x="{scale(ratio["max"]) + 8:.1f}" y="{y + 4}">{ratio["median"]:.2f}</text>')
    parts.append("</svg>")
    with open(path, "w") as file:
        file.write("\n".join(parts))
