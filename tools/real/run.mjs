// `npm run test:real -- DIR`: the checks on real weights, which are TypeScript and run through tsx.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('../../test/real/run.ts', import.meta.url));
const { status, signal, error } = spawnSync(process.execPath, ['--import', 'tsx', script, ...process.argv.slice(2)], {
  stdio: 'inherit',
});
if (error) console.error(error.message);
if (signal) console.error(`ended by ${signal}`);
process.exit(status ?? 1);
