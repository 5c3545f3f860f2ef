/**
 * Who may ask. A page of another site can make a browser send requests to this machine, and by DNS rebinding under a name of its own; such
 * requests carry that name in Host or Origin.
 */
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { problem } from '../errors.js';
import { ApiError } from './api-error.js';

const LOOPBACK_NAMES = ['localhost', '127.0.0.1', '[::1]'];
/** Listening on them is listening on every address of this machine. */
const WILDCARDS = ['0.0.0.0', '[::]'];

/** @throws ApiError 400 without a Host or with several, 403 for another host */
export type HostCheck = (request: Pick<IncomingMessage, 'headers' | 'headersDistinct'>) => void;

/**
 * @param address that is listened on; where it stands for all, Host may be any address: rebinding needs a name
 * @param names of this machine, beside those of the loopback and `address`
 * @throws VoiceGrpoError E_CONFIG for what is no name
 */
export function hostCheck(address: string, names: readonly string[] = []): HostCheck {
  const own = hostName(inUrl(address));
  const anyAddress = own !== null && WILDCARDS.includes(own);
  const allowed = new Set([...LOOPBACK_NAMES, ...(own === null ? [] : [own]), ...names.map(checkedName)]);
  return ({ headers: { host, origin }, headersDistinct }) => {
    if (host === undefined || host === '' || headersDistinct.host?.length !== 1) {
      throw new ApiError(400, 'The request must have one Host header, such as localhost.', { code: 'invalid_host' });
    }
    const asked = hostName(host);
    if (asked === null || !(allowed.has(asked) || (anyAddress && isAddress(asked)))) {
      throw new ApiError(403, 'The Host header names another host: this server does not answer to that name.', {
        code: 'host_not_allowed',
      });
    }
    if (origin !== undefined) {
      const from = hostName(/^https?:\/\/(.*)$/i.exec(origin)?.[1] ?? '');
      // A page that lies at any address may be anybody's; at the address that is asked it is this machine's.
      if (from === null || !(allowed.has(from) || from === asked)) {
        throw new ApiError(403, 'The Origin header names another host: pages of other sites may not use this server.', {
          code: 'origin_not_allowed',
        });
      }
    }
  };
}

/** An address as it stands in a URL: IPv6 in brackets, and without its zone, which no URL has. */
export function inUrl(address: string): string {
  return address.includes(':') ? `[${address.replace(/%.*$/, '')}]` : address;
}

/** The name in 'name:port', in the one way in which URLs write it; null for what is none (a user name before it, a path behind it). */
function hostName(host: string): string | null {
  const name = /^(\[[0-9a-f:.]+\]|[0-9a-z._-]+)(?::\d{1,5})?$/i.exec(host)?.[1];
  if (name === undefined || !URL.canParse(`http://${name}`)) return null;
  return new URL(`http://${name}`).hostname;
}

function isAddress(name: string): boolean {
  return isIP(unbracketed(name)) !== 0;
}

function checkedName(name: string): string {
  const bare = unbracketed(name);
  const known = hostName(inUrl(bare));
  if (known !== null && (isIP(bare) !== 0 || !bare.includes(':'))) return known;
  throw problem({
    code: 'E_CONFIG',
    where: 'name of this machine',
    expected: 'a host name or an address, without http:// and port',
    got: `'${name}'`,
    next: 'Correct it: --host-name box.lan',
  });
}

function unbracketed(name: string): string {
  return name.replace(/^\[(.*)\]$/, '$1');
}
