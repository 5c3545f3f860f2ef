/** The page: one file with everything in it. What it shows is data, never markup. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** What tools/web.mjs made of web/. */
const bundled = (name: string) => readFileSync(new URL(`../../dist/web/${name}`, import.meta.url), 'utf8');
const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

/** JSON that no HTML parser can take for markup. */
export function embeddedJson(value: unknown): string {
  return JSON.stringify(value)
    .replaceAll('<', '\\u003c')
    .replaceAll('\u2028', '\\u2028')
    .replaceAll('\u2029', '\\u2029');
}

export interface Page {
  html: string;
  /** Content-Security-Policy: its own scripts and styles by their hash, and nothing else. */
  policy: string;
}

/** @param live the tag of the data, where the page listens for what comes after it at ./events */
export function page(data: { name: string }, live: string | null = null): Page {
  const script = bundled('report.js');
  const style = bundled('report.css');
  const policy = [
    "default-src 'none'",
    `script-src ${hash(script)}`,
    `style-src ${hash(style)}`,
    'media-src data:',
    'img-src data:',
    `connect-src ${live === null ? "'none'" : "'self'"}`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
  const title = data.name.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
  const html = `<!doctype html>
<html lang="en"${live === null ? '' : ` data-live="${live}"`}>
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>${title} · voicegrpo</title>
<style>${style}</style>
</head>
<body>
<div id="app"><noscript>This page draws its charts with a script of its own: allow scripts for it.</noscript></div>
<script type="application/json" id="data">${embeddedJson(data)}</script>
<script>${script}</script>
</body>
</html>
`;
  return { html, policy };
}
