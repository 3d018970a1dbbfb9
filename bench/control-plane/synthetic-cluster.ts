import { setTimeout as pause } from 'node:timers/promises';
import { remoteUser, syncRemoteUsers } from '../../src/clustermesh/access.ts';
import { Exporter } from '../../src/clustermesh/exporter.ts';
import { type Kind, kinds } from '../../src/clustermesh/layout.ts';
import { keepSession } from '../../src/kvstore/session.ts';
import type { EtcdRow } from '../../src/kvstore/target.ts';
import { Table } from '../../src/table/table.ts';
import { SyntheticEtcd } from '../synthetic-etcd.ts';
import { endpointAddress, rowsOf, type Shape } from '../synthetic-rows.ts';

export const synthetic = { name: 'syn', id: 3 } as const;

const perNode = 100;
const perService = 10;

/**
 * A cluster that is nothing but its mesh etcd: mutual TLS, users and authentication as the chart sets them up,
 * and in it what a clustermesh-apiserver with this many endpoints would have written. One node for 100
 * endpoints, one identity and one global service for 10.
 */
export class SyntheticCluster implements AsyncDisposable {
  readonly #etcd: SyntheticEtcd;
  readonly #rows: Readonly<Record<Kind, Table<EtcdRow>>>;
  readonly #exporter: Exporter;
  readonly #stop = new AbortController();
  readonly #session: Promise<void>;
  #shape = shapeOf(0);

  private constructor(etcd: SyntheticEtcd, remotes: readonly string[]) {
    this.#etcd = etcd;
    const table = (): Table<EtcdRow> => new Table<EtcdRow>({ name: 'rows', keyOf: row => row.key });
    this.#rows = {
      nodes: table(),
      identities: table(),
      ip: table(),
      services: table(),
      serviceexports: table(),
    };
    const config = {
      id: synthetic.id,
      syncedCanaries: true,
      cached: false,
      maxConnectedClusters: 255,
      serviceExportsEnabled: undefined,
    } as const;
    this.#exporter = new Exporter({ cluster: synthetic.name, config, rows: this.#rows }, this.#stop.signal);
    this.#session = keepSession(
      {
        endpoints: () => [{ host: etcd.host, port: etcd.port, serverName: undefined }],
        tls: etcd.admin,
        backoff: { first: 50, max: 200 },
      },
      this.#stop.signal,
      async (connection, signal) => {
        await syncRemoteUsers(connection, remotes);
        await this.#exporter.serve(connection, signal);
      },
    );
  }

  /** Starts its etcd on an address of this machine; the clusters `remotes` may read it. */
  static async start(host: string, port: number, remotes: readonly string[]): Promise<SyntheticCluster> {
    return new SyntheticCluster(await SyntheticEtcd.start(synthetic.name, host, port), remotes);
  }

  /** Addresses of its endpoints. */
  get addresses(): string[] {
    return Array.from({ length: this.#shape.endpoints }, (_, n) => endpointAddress(this.#shape, n));
  }

  /** Has so many endpoints from now on; resolves when all are in etcd. */
  async resize(size: number): Promise<void> {
    this.#shape = shapeOf(size);
    for (const kind of kinds) {
      this.#rows[kind].replace(rowsOf(this.#shape, kind));
      this.#rows[kind].markSynced();
    }
    while (!this.#exporter.synced || this.#exporter.status.some(each => each.pending || each.failing))
      await pause(20);
  }

  /** Entries of the Secret cilium-clustermesh of a cluster that reads this one. */
  remoteEntries(remote: string): Promise<Record<string, string>> {
    return this.#etcd.remoteEntries(remoteUser(remote), [synthetic.name]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#session;
    await this.#etcd[Symbol.asyncDispose]();
  }
}

const shapeOf = (endpoints: number): Shape => ({
  ...synthetic,
  nodes: Math.max(1, Math.ceil(endpoints / perNode)),
  endpoints,
  services: endpoints / perService,
  namespace: 'default',
  cached: false,
});
