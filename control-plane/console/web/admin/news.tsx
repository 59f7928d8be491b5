import { useState } from 'preact/hooks';
import { ask } from '../api/client.js';
import { useAct } from '../api/use-act.js';
import { Button } from '../parts/buttons.js';
import { Dialog } from '../parts/dialog.js';
import { Time } from '../parts/figures.js';
import { Form, TextArea, TextField } from '../parts/form.js';
import { Badge, Card, PageHead } from '../parts/layout.js';
import { Table } from '../parts/table.js';
import { type ItemOf, queryOf } from './api-types.js';
import { Removal, useEdits } from './edits.js';
import { fromLocalInput, localInput } from './times.js';

const PATH = '/api/admin/news';
type News = ItemOf<typeof PATH>;
type Texts = News['texts'];

const LANGUAGES = [
  ['uz', 'Uzbek'],
  ['ru', 'Russian'],
  ['en', 'English'],
] as const;

/** Announcements, in three languages. */
export default function NewsPage() {
  const edits = useEdits<News>();
  const id = edits.removing?.id;
  return (
    <>
      <PageHead title="News" lead="Shown in the app and the bot, in the reader's language.">
        <Button kind="main" onClick={edits.make}>
          Write news
        </Button>
      </PageHead>
      <Card>
        <Table
          load={(api, query, signal) =>
            ask(api.GET(PATH, { params: { query: queryOf<typeof PATH>(query) }, signal }))
          }
          caption="News"
          columns={[
            { key: 'title', title: 'Title', cell: (row) => row.texts.en.title },
            { key: 'state', title: 'State', cell: (row) => <State news={row} /> },
            { key: 'from', title: 'From', cell: (row) => <Time at={row.publish_at} /> },
            { key: 'until', title: 'Until', cell: (row) => <Time at={row.expires_at} /> },
            {
              key: 'acts',
              title: '',
              cell: (row) => (
                <span class="row">
                  <Button label={`Change ${row.texts.en.title}`} onClick={() => edits.edit(row)}>
                    Change
                  </Button>
                  <Button
                    kind="danger"
                    label={`Take back ${row.texts.en.title}`}
                    onClick={() => edits.remove(row)}
                  >
                    Take back
                  </Button>
                </span>
              ),
            },
          ]}
          rowKey={(row) => row.id}
          revision={edits.revision}
          empty="No news yet"
        />
      </Card>
      {edits.editing !== undefined && (
        <Editor news={edits.editing.row} onDone={edits.done} onClose={edits.close} />
      )}
      {id !== undefined && (
        <Removal
          title="Take this back?"
          action="Take back"
          done="Taken back."
          remove={(api) => ask(api.DELETE('/api/admin/news/{id}', { params: { path: { id } } }))}
          onDone={edits.done}
          onClose={edits.close}
        >
          <p>{edits.removing?.texts.en.title}</p>
        </Removal>
      )}
    </>
  );
}

function State({ news }: { news: News }) {
  const now = Date.now();
  if (Date.parse(news.publish_at) > now) return <Badge tone="info">planned</Badge>;
  if (news.expires_at !== null && Date.parse(news.expires_at) <= now) return <Badge>over</Badge>;
  return <Badge tone="good">shown</Badge>;
}

const NO_TEXTS: Texts = {
  uz: { title: '', body: '' },
  ru: { title: '', body: '' },
  en: { title: '', body: '' },
};

function Editor(props: { news: News | null; onDone: () => void; onClose: () => void }) {
  const { news } = props;
  const [texts, setTexts] = useState<Texts>(news?.texts ?? NO_TEXTS);
  const [from, setFrom] = useState(localInput(news?.publish_at ?? null));
  const [until, setUntil] = useState(localInput(news?.expires_at ?? null));
  const act = useAct(
    (api) => {
      const publishAt = fromLocalInput(from);
      const body = {
        texts,
        expires_at: fromLocalInput(until),
        ...(publishAt !== null && { publish_at: publishAt }),
      };
      return news === null
        ? ask(api.POST(PATH, { body }))
        : ask(api.PATCH('/api/admin/news/{id}', { params: { path: { id: news.id } }, body }));
    },
    { quiet: true, done: 'Saved.' },
  );
  return (
    <Dialog title={news === null ? 'Write news' : 'Change news'} onClose={props.onClose}>
      <Form
        submit={news === null ? 'Announce' : 'Save'}
        busy={act.busy}
        error={act.error}
        onSubmit={() => void act.run().then((done) => done && props.onDone())}
      >
        {LANGUAGES.map(([code, language]) => (
          <fieldset key={code} class="scope-group">
            <legend class="hidden">{language}</legend>
            <TextField
              label={`${language}: title`}
              name={`texts/${code}/title`}
              error={act.error}
              lang={code}
              value={texts[code].title}
              onValue={(title) => setTexts({ ...texts, [code]: { ...texts[code], title } })}
            />
            <TextArea
              label={`${language}: text`}
              name={`texts/${code}/body`}
              error={act.error}
              rows={3}
              value={texts[code].body}
              onValue={(body) => setTexts({ ...texts, [code]: { ...texts[code], body } })}
            />
          </fieldset>
        ))}
        <div class="fields">
          <TextField
            label="Shown from"
            type="datetime-local"
            hint="In your time zone. Empty: at once."
            value={from}
            onValue={setFrom}
          />
          <TextField
            label="Shown until"
            type="datetime-local"
            hint="Empty: for good."
            value={until}
            onValue={setUntil}
          />
        </div>
      </Form>
    </Dialog>
  );
}
