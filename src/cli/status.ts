import type { Command } from 'commander';

export function register(program: Command): void {
  program
    .command('status')
    .description('Show the components of a cluster, their versions, errors and warnings');
}
