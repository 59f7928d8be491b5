import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { countText } from '../parts/amounts.js';
import { Button } from '../parts/buttons.js';
import { saveFile } from '../parts/csv.js';
import { Dialog } from '../parts/dialog.js';
import { Form, TextArea } from '../parts/form.js';
import { Progress } from '../parts/layout.js';

/** Rows the API takes at once. */
const ROWS_MAX = 10_000;
/** Faulty rows that are listed; the file has all. */
const SHOWN_MAX = 100;

interface Finding {
  row: number;
  code: string;
  detail: string;
}

/** Packages from pasted or chosen CSV; faulty rows are told by their number. */
export function PackageUpload({ onCreated, onClose }: { onCreated: () => void; onClose: () => void }) {
  const [csv, setCsv] = useState('');
  const [result, setResult] = useState<{ created: number; errors: Finding[] }>();
  const rows = Math.max(0, csv.split('\n').filter((line) => line.trim() !== '').length - 1);
  const act = useAct(
    (api) =>
      ask(
        api.POST('/api/admin/packages/bulk_create', {
          headers: { 'content-type': 'text/csv' },
          body: csv,
          bodySerializer: (body: unknown) => body as string,
        }),
      ),
    { quiet: true },
  );
  const take = (text: string) => {
    setCsv(text);
  };
  const submit = async () => {
    const answer = await act.run();
    if (answer === undefined) return;
    setResult(answer);
    if (answer.created > 0) onCreated();
  };
  if (result !== undefined)
    return (
      <Dialog title={`${countText(result.created)} packages created`} onClose={onClose}>
        <div class="dialog-body">
          {result.errors.length === 0 ? (
            <p>Every row was taken.</p>
          ) : (
            <>
              <p>{countText(result.errors.length)} rows were not taken:</p>
              <ul class="rows">
                {result.errors.slice(0, SHOWN_MAX).map(({ row, code, detail }) => (
                  <li key={`${row}${code}`}>
                    <span>
                      Row {row}: {detail}
                    </span>
                    <code>{code}</code>
                  </li>
                ))}
              </ul>
              {result.errors.length > SHOWN_MAX && (
                <p>and {countText(result.errors.length - SHOWN_MAX)} more.</p>
              )}
            </>
          )}
        </div>
        <footer class="dialog-foot">
          {result.errors.length > 0 && (
            <Button
              onClick={() =>
                saveFile('package-errors.json', 'application/json', [JSON.stringify(result.errors, null, 2)])
              }
            >
              Save the findings
            </Button>
          )}
          <Button
            kind="main"
            onClick={() => {
              setResult(undefined);
              take('');
            }}
          >
            More
          </Button>
        </footer>
      </Dialog>
    );
  return (
    <Dialog title="Create packages from CSV" onClose={onClose}>
      <Form
        submit={rows === 0 ? 'Create' : `Create ${countText(rows)}`}
        busy={act.busy}
        error={act.error}
        disabled={rows === 0 || rows > ROWS_MAX}
        onSubmit={() => void submit()}
      >
        <p class="quiet">
          A header line with <code>user_id,ip,size_bytes</code> and, if you like, <code>uuid</code>; up to{' '}
          {countText(ROWS_MAX)} rows.
        </p>
        <div class="field">
          <label for="package-file">A file</label>
          <input
            id="package-file"
            type="file"
            accept=".csv,text/csv"
            onChange={(event) => void event.currentTarget.files?.[0]?.text().then(take)}
          />
        </div>
        <TextArea label="Or paste it" rows={8} value={csv} onValue={take} />
        {rows > ROWS_MAX && <p class="field-error">These are {countText(rows)} rows. Split the file.</p>}
        {act.busy && <Progress label={`${countText(rows)} rows are being created`} value={null} max={1} />}
      </Form>
    </Dialog>
  );
}
