import { Counter, type Registry } from 'prom-client';
import type { EtcdConnection } from '../kvstore/connection.ts';
import { keepSession } from '../kvstore/session.ts';
import type { Logger } from '../log.ts';
import type { ApiserverConfig } from './apiserver-config.ts';
import { adminTls, ownEtcd } from './own-etcd.ts';

/** How a process writes into the etcd beside it: what fails is counted, logged now and then, and told to whoever asks. */
export class OwnEtcdSession {
  /** Why there is no connection. */
  trouble: string | undefined = 'not connected yet';
  readonly #log: Logger;
  readonly #errors: Counter;

  constructor(registry: Registry, log: Logger) {
    this.#log = log;
    this.#errors = new Counter({
      name: 'isthmus_kvstore_sync_errors_total',
      help: 'Writes to the local etcd that failed and were tried again',
      registers: [registry],
    });
  }

  /** For whoever writes: a key could not be written. */
  readonly onError = (key: string, error: Error, attempt: number): void => {
    this.#errors.inc();
    if (attempt === 1 || attempt % 10 === 0)
      this.#log.warn({ key, attempt, reason: error.message }, 'write to etcd');
  };

  /** Has `work` done on one connection after another, until `signal` aborts. */
  keep(
    signal: AbortSignal,
    work: (connection: EtcdConnection, session: AbortSignal) => Promise<void>,
  ): Promise<void> {
    return keepSession(
      {
        endpoints: () => [ownEtcd],
        tls: adminTls,
        backoff: { first: 50, max: 1000 },
        onConnected: () => {
          this.trouble = undefined;
          this.#log.info('connected to etcd');
        },
        onFailure: ({ layer, message }, attempt) => {
          this.trouble = `${layer}: ${message}`;
          if (attempt === 1 || attempt % 20 === 0)
            this.#log.warn({ layer, attempt, reason: message }, 'etcd');
        },
      },
      signal,
      work,
    );
  }
}

/** How long a key outlives its writer, in seconds; shorter than 25 a lease could end while etcd is only slow. */
export const leaseSeconds = (config: Pick<ApiserverConfig, 'kvstore-lease-ttl'>): number =>
  Math.max(25, Math.round(config['kvstore-lease-ttl'] / 1000));
