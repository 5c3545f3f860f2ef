/** What the environment says about the hub: the variables of Python's huggingface_hub, with the same meaning. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { problem } from '../errors.js';

export const DEFAULT_ENDPOINT = 'https://huggingface.co';

export interface HubEnvironment {
  /** Address of the hub, without a slash at its end. */
  endpoint: string;
  /** Folder of the cache that Python's client shares. */
  cache: string;
  /** Sent to the endpoint alone; null: none. */
  token: string | null;
  /** No request is made. */
  offline: boolean;
}

/**
 * HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE, HF_HUB_DISABLE_IMPLICIT_TOKEN and the older names that
 * huggingface_hub still reads (constants.py, utils/_auth.py).
 *
 * @throws VoiceGrpoError E_CONFIG for an HF_ENDPOINT that is no http(s) address, or a token that cannot be sent
 */
export function hubEnvironment(env: NodeJS.ProcessEnv = process.env): HubEnvironment {
  const home = expand(env.HF_HOME || join(env.XDG_CACHE_HOME || '~/.cache', 'huggingface'), env);
  return {
    endpoint: endpointOf(env.HF_ENDPOINT || DEFAULT_ENDPOINT),
    cache: expand(env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(home, 'hub'), env),
    token: isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN) ? null : tokenOf(env, home),
    offline: isTrue(env.HF_HUB_OFFLINE || env.TRANSFORMERS_OFFLINE),
  };
}

function endpointOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw problem({
      code: 'E_CONFIG',
      expected: 'the address of a hub',
      where: 'HF_ENDPOINT',
      got: `'${text}'`,
      next: `use HF_ENDPOINT=${DEFAULT_ENDPOINT}, or unset it`,
    });
  }
  return url.origin + url.pathname.replace(/\/+$/, '');
}

function tokenOf(env: NodeJS.ProcessEnv, home: string): string | null {
  const given = clean(env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN || '', 'HF_TOKEN');
  if (given !== null) {
    return given;
  }
  const path = expand(env.HF_TOKEN_PATH || join(home, 'token'), env);
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return null; // not logged in
  }
  return clean(text, path);
}

function clean(text: string, where: string): string | null {
  const token = text.replace(/[\r\n]/g, '').trim() || null;
  if (token !== null && !/^[\x20-\x7e]+$/.test(token)) {
    throw problem({
      code: 'E_CONFIG',
      expected: 'a token of the hub',
      where,
      got: 'characters that none has',
      next: 'copy the token anew, or unset it',
    });
  }
  return token;
}

function isTrue(value: string | undefined): boolean {
  return /^(1|on|yes|true)$/i.test(value ?? '');
}

/** ~ and $NAME, as Python's expanduser and expandvars do; a variable that is not set stays as it is. */
function expand(path: string, env: NodeJS.ProcessEnv): string {
  return path
    .replace(/^~(?=\/|$)/, env.HOME || homedir())
    .replace(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced?: string, plain?: string) => env[braced ?? plain ?? ''] ?? whole);
}
