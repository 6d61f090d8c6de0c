/** Whose request it is and how it came here: what a proxy says counts only where it is one of ours. */
import type { IncomingMessage } from 'node:http';
import { BlockList, isIP, type Socket } from 'node:net';

export interface ClientAddresses {
  /**
   * The network that a client is known by: its address, an IPv6 one cut to the 64 bits that a customer is given. Behind
   * trusted proxies it is the last hop before them; what stands further left in `X-Forwarded-For` anybody can have written.
   */
  of(request: IncomingMessage): string;
  /** The network of a bare connection; null: it is a trusted proxy's, which speaks for many. */
  peer(socket: Socket): string | null;
  /** Whether it came by TLS, here or at a trusted proxy. */
  isSecure(request: IncomingMessage): boolean;
}

/**
 * `trusted`: addresses and CIDRs of proxies, each checked by the configuration. `onStranger` is called once, when somebody
 * else says for whom it asks: perhaps a proxy that was forgotten, behind which everybody looks like one.
 */
export function makeClientAddresses(
  trusted: readonly string[],
  onStranger: (address: string) => void = () => {},
): ClientAddresses {
  let warned = false;
  const proxies = new BlockList();
  for (const entry of trusted) {
    const [address = '', bits] = entry.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (bits === undefined) proxies.addAddress(address, family);
    else proxies.addSubnet(address, Number(bits), family);
  }
  const isTrusted = (address: string): boolean =>
    trusted.length > 0 && isIP(address) !== 0 && proxies.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');

  function of({ socket, headers }: IncomingMessage): string {
    let address = plain(socket.remoteAddress ?? '');
    const forwarded = headers['x-forwarded-for'];
    if (typeof forwarded !== 'string') return networkOf(address);
    if (!isTrusted(address)) {
      if (!warned) onStranger(address);
      warned = true;
      return networkOf(address);
    }
    for (const hop of forwarded.split(',').reverse()) {
      const said = plain(withoutPort(hop.trim()));
      // Whatever a proxy of ours did not understand either: it is the last that is known.
      if (isIP(said) === 0) break;
      address = said;
      if (!isTrusted(address)) break;
    }
    return networkOf(address);
  }

  return {
    of,
    peer(socket) {
      const address = plain(socket.remoteAddress ?? '');
      return isTrusted(address) ? null : networkOf(address);
    },
    isSecure({ socket, headers }) {
      if ('encrypted' in socket && socket.encrypted === true) return true;
      return headers['x-forwarded-proto'] === 'https' && isTrusted(plain(socket.remoteAddress ?? ''));
    },
  };
}

/** An IPv4 address as it is where a socket for both families saw it. */
function plain(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address;
}

/** `1.2.3.4:567` and `[::1]:567`, as some proxies write. */
function withoutPort(hop: string): string {
  return /^\[([^\]]*)\](?::\d+)?$/.exec(hop)?.[1] ?? /^([\d.]+):\d+$/.exec(hop)?.[1] ?? hop;
}

function networkOf(address: string): string {
  if (!address.includes(':')) return address;
  const [head = '', tail = ''] = (address.split('%')[0] ?? '').split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === '' ? [] : tail.split(':');
  const zeros: string[] = Array(Math.max(0, 8 - left.length - right.length)).fill('0');
  const groups = [...left, ...zeros, ...right].slice(0, 4);
  return `${groups.map((group) => Number.parseInt(group, 16).toString(16)).join(':')}::/64`;
}
