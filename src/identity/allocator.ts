import { createHash } from 'node:crypto';
import {
  CiliumIdentity,
  type IdentityRow,
  identityObject,
  identityRow,
} from '../api/crds/cilium-identity.ts';
import { allocationRange, type MaxClusters } from '../api/identity-number.ts';
import { formatLabels, type Labels } from '../api/labels.ts';
import type { KubeClient } from '../kube/client.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { isAlreadyExists, isNotFound } from '../kube/status.ts';
import type { ReadonlyTable } from '../table/table.ts';

export interface AllocatorOptions {
  readonly client: KubeClient;
  readonly clusterId: number;
  readonly maxClusters?: MaxClusters;
  /** The cluster's identities, as `identitiesTable` makes it. */
  readonly identities: ReadonlyTable<IdentityRow>;
  /** True for a number local endpoints use: if its object is deleted, it is made again. */
  readonly inUse?: (identity: number) => boolean;
  readonly onError?: (error: Error) => void;
}

/**
 * Finds or makes the security identity of a set of labels, through CiliumIdentity objects.
 *
 * Nodes that meet new labels at the same time try the same numbers in the same order (a hash of the labels),
 * so the API server's AlreadyExists settles the race with one object. Should two objects with equal labels
 * exist all the same, every node uses the lowest number, and the other falls to garbage collection.
 */
export class IdentityAllocator {
  readonly #options: AllocatorOptions;
  readonly #range: { min: number; max: number };
  /** Made by us and perhaps not yet seen in the table: labels' text → number. */
  readonly #made = new Map<string, number>();
  readonly #underWay = new Map<string, Promise<number>>();

  constructor(options: AllocatorOptions) {
    this.#options = options;
    this.#range = allocationRange(options.clusterId, options.maxClusters);
    options.identities.subscribe(({ before, after }) => {
      if (after) this.#made.delete(after.text);
      else if (before) this.#deleted(before);
    });
  }

  /** The number in force for these labels, if there is one now: the lowest of those that exist. */
  known(text: string): number | undefined {
    let lowest = this.#made.get(text);
    for (const row of this.#options.identities.by('text', text))
      if (lowest === undefined || row.identity < lowest) lowest = row.identity;
    return lowest;
  }

  /** The number of these labels, made if need be. Rejects when the API server cannot be asked or refuses. */
  identityOf(labels: Labels): Promise<number> {
    const text = formatLabels(labels);
    const known = this.known(text);
    if (known !== undefined) return Promise.resolve(known);
    const present = this.#underWay.get(text);
    if (present) return present;
    const work = this.#allocate(labels, text).finally(() => this.#underWay.delete(text));
    this.#underWay.set(text, work);
    return work;
  }

  async #allocate(labels: Labels, text: string): Promise<number> {
    const { identities, client } = this.#options;
    await identities.whenSynced();
    const known = this.known(text);
    if (known !== undefined) return known;
    for (const identity of candidates(text, this.#range)) {
      if (identities.has(String(identity))) continue;
      try {
        await client.create(pathOf(resources.ciliumIdentities), identityObject(identity, labels));
      } catch (error) {
        if (!isAlreadyExists(error)) throw error;
        // Somebody was quicker than our watch: with the same labels it is the answer, else the next number is.
        if ((await this.#read(identity))?.text !== text) continue;
      }
      if (!identities.has(String(identity))) this.#made.set(text, identity);
      return this.known(text) ?? identity;
    }
    throw new Error(
      `no identity is free for ${text}: ${identities.size} are in use in ${this.#range.min} to ${this.#range.max}`,
    );
  }

  async #read(identity: number): Promise<IdentityRow | undefined> {
    const path = pathOf(resources.ciliumIdentities, { name: String(identity) });
    try {
      return identityRow(await this.#options.client.get(path, CiliumIdentity));
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  /** Somebody removed an identity that endpoints here still have: the number keeps its meaning. */
  #deleted(row: IdentityRow): void {
    const { client, inUse, onError } = this.#options;
    if (!inUse?.(row.identity)) return;
    client.create(pathOf(resources.ciliumIdentities), identityObject(row.identity, row.labels)).then(
      () => undefined,
      error => {
        if (isAlreadyExists(error)) return;
        onError?.(new Error(`identity ${row.identity} is in use and cannot be made again`, { cause: error }));
      },
    );
  }
}

/** Every number of the range once, beginning at one the labels decide and going on by a step they decide. */
function* candidates(text: string, range: { min: number; max: number }): Generator<number> {
  const size = range.max - range.min + 1;
  const hash = createHash('sha256').update(text).digest();
  const start = hash.readUInt32LE(0) % size;
  let step = (hash.readUInt32LE(4) % (size - 1)) + 1;
  while (greatestCommonDivisor(step, size) !== 1) step = (step % (size - 1)) + 1;
  for (let n = 0, at = start; n < size; n++, at = (at + step) % size) yield range.min + at;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
