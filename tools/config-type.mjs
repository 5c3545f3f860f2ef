// Writes src/config/config.generated.ts from configs/schema.json. Run by `npm run config:type`.
import { readFileSync, writeFileSync } from 'node:fs';
import { compile } from 'json-schema-to-typescript';

const schemaFile = new URL('../configs/schema.json', import.meta.url);
const typeFile = new URL('../src/config/config.generated.ts', import.meta.url);

/** @returns {Promise<string>} the TypeScript declaration of the configuration */
export async function configType() {
  const schema = JSON.parse(readFileSync(schemaFile, 'utf8'));
  return compile(schema, 'Config', {
    bannerComment: '/* Generated from configs/schema.json by tools/config-type.mjs; do not edit. */',
    additionalProperties: false,
    style: { singleQuote: true, printWidth: 120 },
  });
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  writeFileSync(typeFile, await configType());
}
