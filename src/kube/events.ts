import { createHash } from 'node:crypto';
import type { KubeClient } from './client.ts';
import { pathOf, resources, typeOf } from './resource.ts';
import { isNotFound } from './status.ts';
import { timestamp } from './time.ts';

/** The object an event is about. */
export interface EventSubject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string | undefined;
  readonly uid?: string | undefined;
}

export interface EventRecorderOptions {
  readonly client: KubeClient;
  /** Node name for agents; shown beside the component. */
  readonly host?: string;
  /** Milliseconds within which repeats of one event are counted up in it instead of posted anew. */
  readonly window?: number;
  readonly onError?: (error: Error) => void;
}

interface Series {
  readonly path: string;
  readonly first: number;
  count: number;
  sent: Promise<void>;
}

/**
 * Posts core/v1 Events, the kind `kubectl describe` shows. Equal events (object, reason, message) within the
 * window become one with a count. Never throws and never blocks: an event that cannot be posted is reported
 * to `onError` and lost.
 */
export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #series = new Map<string, Series>();

  constructor(options: EventRecorderOptions) {
    this.#options = options;
  }

  warn(subject: EventSubject, reason: string, message: string): void {
    this.#record('Warning', subject, reason, message);
  }

  say(subject: EventSubject, reason: string, message: string): void {
    this.#record('Normal', subject, reason, message);
  }

  /** Resolves when everything recorded so far has been posted or reported. */
  async flush(): Promise<void> {
    await Promise.all([...this.#series.values()].map(each => each.sent));
  }

  #record(type: 'Normal' | 'Warning', subject: EventSubject, reason: string, message: string): void {
    const now = Date.now();
    const window = this.#options.window ?? 600_000;
    for (const [key, each] of this.#series) if (now - each.first > window) this.#series.delete(key);
    const key = createHash('sha256')
      .update(
        JSON.stringify([type, subject.kind, subject.namespace, subject.name, subject.uid, reason, message]),
      )
      .digest('hex');
    // Events about cluster-scoped objects live in "default", where kubectl looks for them.
    const namespace = subject.namespace ?? 'default';
    const known = this.#series.get(key);
    if (known) {
      known.count++;
      known.sent = known.sent.then(() => this.#repeat(known, key));
      return;
    }
    const name = `${subject.name.slice(0, 200)}.${key.slice(0, 8)}${now.toString(16)}`;
    const path = pathOf(resources.events, { namespace, name });
    const series: Series = { path, first: now, count: 1, sent: Promise.resolve() };
    this.#series.set(key, series);
    const time = timestamp(new Date(now));
    const { client, host } = this.#options;
    const body = {
      ...typeOf(resources.events),
      metadata: { name, namespace },
      involvedObject: subject,
      type,
      reason,
      message: message.slice(0, 1024),
      count: 1,
      firstTimestamp: time,
      lastTimestamp: time,
      source: { component: client.component, ...(host ? { host } : {}) },
      reportingComponent: client.component,
      reportingInstance: host ?? '',
    };
    const collection = pathOf(resources.events, { namespace });
    series.sent = client.create(collection, body).then(
      () => undefined,
      error => this.#failed(error, key),
    );
  }

  async #repeat(series: Series, key: string): Promise<void> {
    const lastTimestamp = timestamp();
    try {
      await this.#options.client.patch(series.path, 'merge', { count: series.count, lastTimestamp });
    } catch (error) {
      // Events expire after an hour: the next equal one is posted anew.
      if (isNotFound(error)) this.#series.delete(key);
      else this.#failed(error, key);
    }
  }

  #failed(error: unknown, key: string): void {
    this.#series.delete(key);
    this.#options.onError?.(error instanceof Error ? error : new Error(String(error)));
  }
}
