// Packs Whisper's two vocabularies for assets/vocabulary: node tools/golden/whisper-vocabulary.mjs FOLDER
//
// FOLDER holds gpt2.tiktoken and multilingual.tiktoken of openai-whisper (whisper/assets; MIT), lines of a token in base64 and
// its rank. A packed file is brotli of one byte for each token, its length, and then the bytes of all, in the order of ranks.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants } from 'node:zlib';

const [folder] = process.argv.slice(2);
if (!folder) throw new Error('usage: node tools/golden/whisper-vocabulary.mjs FOLDER');
const to = path.join(path.dirname(fileURLToPath(import.meta.url)), '..', '..', 'assets', 'vocabulary');

for (const name of ['gpt2', 'multilingual']) {
  const lines = readFileSync(path.join(folder, `${name}.tiktoken`), 'latin1')
    .split('\n')
    .filter(Boolean);
  const tokens = lines.map((line, rank) => {
    const [token, written] = line.split(' ');
    if (Number(written) !== rank) throw new Error(`${name}: line ${rank + 1} has rank ${written}`);
    return Buffer.from(token, 'base64');
  });
  const plain = Buffer.concat([Buffer.from(tokens.map(({ length }) => length)), ...tokens]);
  const packed = brotliCompressSync(plain, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: 11,
      [constants.BROTLI_PARAM_LGWIN]: 22,
      [constants.BROTLI_PARAM_SIZE_HINT]: plain.length,
    },
  });
  writeFileSync(path.join(to, `${name}.br`), packed);
  console.log(`${name}: ${tokens.length} tokens, ${plain.length} bytes, packed ${packed.length}`);
}
