// Writes deploy/SETTINGS.md and deploy/env.example from the configuration code: `npm run settings`.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { buildIfNeeded } from './build.mjs';

await buildIfNeeded();
const { environmentExample, settingsMarkdown } = await import('../dist/deploy/commands/settings.js');
writeFileSync(fileURLToPath(new URL('SETTINGS.md', import.meta.url)), settingsMarkdown());
writeFileSync(fileURLToPath(new URL('env.example', import.meta.url)), environmentExample());
