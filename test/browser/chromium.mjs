// The browser of the browser tests.
import { existsSync } from 'node:fs';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** The path of a Chromium; undefined: there is none. VOICEGRPO_CHROMIUM names the one and only that counts. */
export function findChromium(environment = process.env) {
  const { VOICEGRPO_CHROMIUM: named } = environment;
  return (named ? [named] : PLACES).find((file) => existsSync(file));
}

export const HOW_TO_RUN =
  'install Chromium (apt-get install chromium) or name one in VOICEGRPO_CHROMIUM, then: npm run test:browser';
