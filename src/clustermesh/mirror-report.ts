import * as z from 'zod';
import { parseJson } from './bad-value.ts';
import { reportKey } from './layout.ts';
import { type Outage, type RemoteState, remoteStates } from './remote-status.ts';

/**
 * How a mirror hears one cluster, told to those that read its copy: the etcd that they read says nothing about the one
 * that was copied. It lies beside the copy on a short lease of its own, so that a mirror that is no more is not taken for
 * one that has nothing new to say.
 */
export interface MirrorReport {
  /** Pod of the mirror. */
  readonly mirror: string;
  /** ID in the configuration that the copy is of; 0 where none could be accepted. */
  readonly clusterId: number;
  /** Its `endpointSlicesExportMode`, '' where it says none; undefined where no configuration could be accepted. */
  readonly exportMode?: string | undefined;
  readonly state: RemoteState;
  /** One line for people, as of the writing. */
  readonly status: string;
  /** The cluster's control plane answers the mirror. */
  readonly answers: boolean;
  /** It says that it does not see its own nodes die. */
  readonly blind: boolean;
  /** Seconds by the mirror's clock, as of the writing: since the last heartbeat, since the connection was lost. */
  readonly heartbeatAge?: number | undefined;
  readonly disconnectedAge?: number | undefined;
  readonly lastOutage?: Outage | undefined;
}

export const mirrorReportSchema = z.object({
  mirror: z.string().default(''),
  clusterId: z.int().default(0),
  exportMode: z.string().optional(),
  state: z.enum(remoteStates),
  status: z.string().default(''),
  answers: z.boolean(),
  blind: z.boolean().default(false),
  heartbeatAge: z.number().optional(),
  disconnectedAge: z.number().optional(),
  lastOutage: z.object({ seconds: z.number(), age: z.number() }).optional(),
});

/** @throws BadValue */
export const parseReport = (cluster: string, text: string): MirrorReport =>
  parseJson(reportKey(cluster), text, mirrorReportSchema);

/** What a reader of a copy makes of the reports that it gets: the last one, and how old that is. Times in ms. */
export class Relay {
  #report: MirrorReport | undefined;
  #at = 0;
  /** Since when there is none; undefined while there is one, and before the reports were first listed. */
  #silentSince: number | undefined;

  get report(): MirrorReport | undefined {
    return this.#report;
  }

  /** There is none though there should be: nobody knows how the original is. */
  get silentSince(): number | undefined {
    return this.#silentSince;
  }

  heard(report: MirrorReport, now: number): void {
    this.#report = report;
    this.#at = now;
    this.#silentSince = undefined;
  }

  /** The report is gone, or the list had none. */
  missing(now: number): void {
    this.#report = undefined;
    this.#silentSince ??= now;
  }

  /** Whether the cluster's own control plane answers, as far as is known. */
  get answers(): boolean {
    return this.#report?.answers ?? false;
  }

  get blind(): boolean {
    return this.#report?.blind ?? false;
  }

  /** The state of the original, for a reader whose own copy is complete. */
  get state(): RemoteState {
    if (this.#report) {
      const { state } = this.#report;
      // Whether it is dead is for each reader to say: it has its own word from the probes.
      return state === 'dead' || state === 'disconnected'
        ? 'stale'
        : state === 'connected'
          ? 'syncing'
          : state;
    }
    return this.#silentSince === undefined ? 'syncing' : 'stale';
  }

  describe(now: number): string {
    if (this.#report) return `its mirror ${this.#report.mirror} says: ${this.#report.status}`;
    if (this.#silentSince === undefined) return 'waiting for what its mirror says';
    const age = Math.round((now - this.#silentSince) / 1000);
    return `its mirror has been silent for ${age} s: what is known of it is that old`;
  }

  /** Seconds, as of now. */
  ages(now: number): { readonly heartbeat: number | undefined; readonly disconnected: number | undefined } {
    const { heartbeatAge, disconnectedAge } = this.#report ?? {};
    return {
      heartbeat: heartbeatAge === undefined ? undefined : this.#asOf(now, heartbeatAge),
      disconnected: disconnectedAge ? this.#asOf(now, disconnectedAge) : disconnectedAge,
    };
  }

  lastOutage(now: number): Outage | undefined {
    const outage = this.#report?.lastOutage;
    return outage && { ...outage, age: this.#asOf(now, outage.age) };
  }

  #asOf(now: number, age: number): number {
    return Math.round((age + Math.max(0, now - this.#at) / 1000) * 10) / 10;
  }
}
