#!/usr/bin/env node
// Bundles web/ into dist/web: the one script and the one style sheet that every page has in it. `npm run build:web`.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

/** @returns {Promise<{ script: string, style: string }>} */
export async function bundleWeb() {
  const { outputFiles, metafile } = await build({
    absWorkingDir: root,
    entryPoints: [
      { in: 'web/main.tsx', out: 'report' },
      { in: 'web/report.css', out: 'report' },
    ],
    outdir: 'dist/web',
    bundle: true,
    format: 'iife',
    target: 'es2022',
    jsx: 'automatic',
    jsxImportSource: 'preact',
    minify: true,
    charset: 'utf8',
    legalComments: 'none', // the licences stand in front, whole
    logLevel: 'silent',
    define: { 'process.env.NODE_ENV': '"production"' },
    metafile: true,
    write: false,
  });
  const text = (ending) => outputFiles.find((file) => file.path.endsWith(ending)).text;
  const script = `${licences(Object.keys(metafile.inputs))}${text('.js')}`;
  const style = text('.css');
  // What would end the element that the text stands in, or change how it is parsed.
  const markup = [/<\/script/i, /<!--/, /<script/i].find((pattern) => pattern.test(script));
  if (markup || /<\/style/i.test(style)) throw new Error(`The bundle has markup in it: ${markup ?? '</style'}`);
  return { script, style };
}

/** The licences of the packages that have a part in the bundle, which ask to be passed on with it. */
function licences(inputs) {
  const packages = new Set(inputs.flatMap((file) => file.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//)?.[1] ?? []));
  return [...packages]
    .sort()
    .map((name) => {
      const folder = path.join(root, 'node_modules', name);
      const { version } = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'));
      return `/*! ${name} ${version}\n\n${readFileSync(path.join(folder, 'LICENSE'), 'utf8').trim()}\n*/\n`;
    })
    .join('');
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { script, style } = await bundleWeb();
  const folder = path.join(root, 'dist', 'web');
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'report.js'), script);
  writeFileSync(path.join(folder, 'report.css'), style);
}
