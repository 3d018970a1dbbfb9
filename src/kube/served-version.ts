import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import type { KubeClient } from './client.ts';

const Group = z.object({ versions: z.array(z.object({ version: z.string() })) });

/**
 * The first of `versions` that the API server serves of a group. Waits for one: definitions may be installed later, by
 * somebody else. Rejects when `signal` aborts.
 */
export async function servedVersion(
  client: KubeClient,
  group: string,
  versions: readonly string[],
  { signal, onError }: { signal: AbortSignal; onError: (error: Error) => void },
): Promise<string> {
  for (let attempt = 0; ; attempt++) {
    try {
      const found = await client.get(`/apis/${group}`, Group, { signal });
      const served = new Set(found.versions.map(each => each.version));
      const version = versions.find(each => served.has(each));
      if (version !== undefined) return version;
      throw new Error(
        `${group}: found versions ${[...served].join(', ')}, expected ${versions.join(' or ')}`,
      );
    } catch (error) {
      signal.throwIfAborted();
      if (attempt === 0) onError(error instanceof Error ? error : new Error(String(error)));
    }
    await sleep(Math.min(5000, 100 * 2 ** Math.min(attempt, 10)), undefined, { signal });
  }
}
