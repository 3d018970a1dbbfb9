import { readFile, stat } from 'node:fs/promises';

/** TLS material of a connection; a new object each time anything in it changed. */
export interface TlsMaterial {
  readonly ca?: string | Buffer;
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  readonly servername?: string;
  readonly insecure?: boolean;
}

export interface Credentials {
  readonly tls: TlsMaterial;
  readonly token?: string;
}

/** Where an API server is and how to prove who we are. */
export interface ClusterAccess {
  readonly server: URL;
  /** Asked before every request, so that rotated tokens and CAs are used without a restart. */
  credentials(): Promise<Credentials>;
}

export interface InClusterOptions {
  /** Address of the API server: a node or load balancer address, never the service's. */
  readonly host?: string;
  readonly port?: number | string;
  /** Folder of the mounted service account. */
  readonly directory?: string;
}

/**
 * Access by the pod's service account. Where the agent provides the service network there is no service
 * address to go by, so `host` (or KUBERNETES_SERVICE_HOST, set by the chart from k8sServiceHost) is a real one.
 */
export function inClusterAccess(options: InClusterOptions = {}): ClusterAccess {
  const host = options.host ?? process.env.KUBERNETES_SERVICE_HOST;
  const port = options.port ?? process.env.KUBERNETES_SERVICE_PORT ?? 443;
  const directory = options.directory ?? '/var/run/secrets/kubernetes.io/serviceaccount';
  if (!host) throw new Error('no API server: k8sServiceHost or KUBERNETES_SERVICE_HOST must name one');
  const token = watchedFile(`${directory}/token`);
  const ca = watchedFile(`${directory}/ca.crt`);
  let tls: TlsMaterial = {};
  return {
    server: new URL(`https://${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}`),
    async credentials() {
      const bundle = await ca();
      if (tls.ca !== bundle) tls = { ca: bundle };
      return { tls, token: (await token()).trim() };
    },
  };
}

/** Reads a file again at most once a second, and only when it changed. The kubelet rotates tokens hourly. */
export function watchedFile(path: string): () => Promise<string> {
  let text = '';
  let version = '';
  let checked = Number.NEGATIVE_INFINITY;
  return async () => {
    if (performance.now() - checked < 1000) return text;
    const { mtimeMs, ino, size } = await stat(path);
    const found = `${mtimeMs}/${ino}/${size}`;
    if (found !== version) {
      text = await readFile(path, 'utf8');
      version = found;
    }
    checked = performance.now();
    return text;
  };
}
