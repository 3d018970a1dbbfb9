import { isIP } from 'node:net';

/** One address at which an etcd may be reached: a name with several addresses is several endpoints. */
export interface Endpoint {
  /** Address or DNS name the TCP connection goes to. */
  readonly host: string;
  readonly port: number;
  /** Name the server's certificate must carry; absent when it must carry `host` as an IP address. */
  readonly serverName: string | undefined;
}

/** Name → addresses, as given by `cilium-host-aliases` of a cluster's configuration file. */
export type HostAliases = ReadonlyMap<string, readonly string[]>;

/**
 * Endpoints of an etcd client configuration. Only https is accepted: a mesh etcd without TLS is refused.
 * @throws Error naming the endpoint and what was expected
 */
export function parseEndpoints(urls: readonly string[], aliases: HostAliases = new Map()): Endpoint[] {
  return urls.flatMap(text => {
    const url = URL.parse(text);
    if (url?.protocol !== 'https:' || !url.hostname)
      throw new Error(`endpoints: found ${JSON.stringify(text)}, expected https://HOST:PORT`);
    const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
    const port = url.port ? Number(url.port) : 443;
    const serverName = isIP(host) ? undefined : host;
    return (aliases.get(host) ?? [host]).map(address => ({ host: address, port, serverName }));
  });
}

/** `host:port` as shown to people. */
export function formatEndpoint({ host, port }: Endpoint): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}
