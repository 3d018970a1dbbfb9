/**
 * `npm run chaos`: breaks nodes and clusters under load and measures for how long clients see it. Makes its own lab;
 * `-- --lab NAME` uses one that is there, `--keep` leaves it, `--delay 40ms` and `--loss 1%` are put between the clusters, each way, `--mirror`
 * has each read the other through its mirror; further words choose scenarios by a part of their name.
 */
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { fault } from '../../src/lab/fault.ts';
import { makeBed, PER_SECOND } from './bed.ts';
import { monotonic } from './client.ts';
import { isKept, type Row } from './scenario.ts';
import { mirrorScenarios, scenarios } from './scenarios.ts';

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      lab: { type: 'string', default: 'chaos' },
      keep: { type: 'boolean', default: false },
      delay: { type: 'string' },
      loss: { type: 'string' },
      mirror: { type: 'boolean', default: false },
    },
  });
  const all = values.mirror
    ? [...scenarios.filter(({ withoutMirror }) => !withoutMirror), ...mirrorScenarios]
    : scenarios;
  const chosen = all.filter(
    ({ name }) => !positionals.length || positionals.some(part => name.includes(part)),
  );
  const say = (line: string): void => console.error(line);
  await using bed = await makeBed({
    ...values,
    delay: amount('delay', values.delay, 'ms'),
    loss: amount('loss', values.loss, '%'),
    report: say,
  });
  const rows: Row[] = [];
  const broken: string[] = [];
  for (const scenario of chosen) {
    const at = monotonic();
    try {
      const found = await scenario.run(bed);
      rows.push(...found);
      say(tableText(found));
    } catch (error) {
      broken.push(`${scenario.name}: ${error instanceof Error ? error.message : error}`);
    } finally {
      await fault(values.lab, { kind: 'heal' });
    }
    say(`${scenario.name}: ${((monotonic() - at) / 1000).toFixed(0)} s`);
  }
  process.stdout.write(
    `${PER_SECOND} requests per second and client, each of at most ${bed.patience / 1000} s\n`,
  );
  process.stdout.write(`${tableText(rows)}\n`);
  for (const line of broken) process.stdout.write(`✘ ${line}\n`);
  return rows.every(isKept) && broken.length === 0 ? 0 : 1;
}

/** The number of an option as `40ms`. @throws Error when it has another form */
function amount(option: string, text: string | undefined, unit: string): number | undefined {
  if (text === undefined) return undefined;
  const found = new RegExp(`^([0-9.]+)${unit}$`).exec(text)?.[1];
  if (found === undefined) throw new Error(`--${option}: found ${text}, expected a number with ${unit}`);
  return Number(found);
}

function tableText(rows: readonly Row[]): string {
  const table = new Table({
    head: ['', 'fault', 'client in', 'failed', 'errors until', 'promise', 'seen'],
    style: { head: [], border: [] },
  });
  for (const row of rows) {
    const { what, client, cost, limit, note } = row;
    table.push([
      isKept(row) ? '✔' : '✘',
      what,
      client,
      `${cost.failed} of ${cost.requests}${cost.refused ? ` (${cost.refused} refused)` : ''}`,
      cost.until ? `${cost.until.toFixed(2)} s` : '–',
      limit === 0 ? 'none' : `≤ ${limit} s`,
      cost.stalled >= 0.5
        ? `${note}${note && '; '}client off the processor for ${cost.stalled.toFixed(1)} s`
        : note,
    ]);
  }
  return table.toString();
}

process.exitCode = await main();
